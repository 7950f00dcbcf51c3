//! Keys and values in the database, and nothing else.
