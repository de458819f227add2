//! mod_rest's HTTP contract: `POST /rest`, path forms, `GET` queries and echo.

pub mod auth;
pub mod draft;
pub mod error;
pub mod form;
pub mod json;
pub mod media;
pub mod path;
pub mod request;
pub mod serve;
pub mod stanza;
