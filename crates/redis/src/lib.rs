//! A store on Redis.
