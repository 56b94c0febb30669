import { Component, type ReactNode } from 'react';
import { Problem } from './basics.tsx';

/** What cannot be drawn says so in its own place; the rest of the page goes on. */
export class ErrorBoundary extends Component<{ children: ReactNode }, { error?: Error }> {
  override state: { error?: Error } = {};

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    const { error } = this.state;
    if (!error) return this.props.children;
    return (
      <Problem
        error={`This cannot be shown: ${error.message}`}
        retry={() => this.setState({ error: undefined })}
      />
    );
  }
}
