//! Flags, environment and configuration file, and every mistake in them at once.
//!
//! A setting is declared in [`settings`] once: its key in the file, its flag and its variable follow from its name. Each part of the
//! program owns the type of its configuration; here they are filled. Only the programs import this module.

mod arguments;
mod gateway;
mod listeners;
mod mistake;
mod reload;
mod secret_file;
#[cfg(feature = "server")]
mod service;
pub mod settings;
mod sources;
#[cfg(feature = "server")]
mod store_location;
mod store_url;
#[cfg(feature = "server")]
mod stores;
mod upstream;
mod value;

pub use arguments::{Flags, Parsed, parse, with_settings};
pub use gateway::{GatewayParts, GatewayProgramConfig};
pub use mistake::{Mistake, Mistakes, Origin};
pub use reload::{Loaded, Reloader};
pub use secret_file::SecretFile;
#[cfg(feature = "server")]
pub use service::ServiceConfig;
pub use sources::Sources;
#[cfg(feature = "server")]
pub use store_location::StoreLocation;
#[cfg(feature = "server")]
pub use stores::{StoresConfig, UserStoreConfig};
pub use upstream::{InvalidUpstream, Upstream};
