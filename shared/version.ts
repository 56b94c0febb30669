/** The version of controller, agent and CLI: one number for the three. */
export const VERSION = '0.1.0';
