/** Whether a store lies in PostgreSQL; else its location is the path of a SQLite file. */
export const isPostgresUrl = (location: string): boolean => /^postgres(ql)?:\/\//.test(location);
