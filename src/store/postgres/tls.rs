//! Whom sessiond believes to be the server.

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How a connection is protected.
#[derive(Clone)]
pub(super) enum Tls {
    /// Not at all.
    Off,
    /// TLS, with the server's certificate and name checked.
    Verified(MakeRustlsConnect),
}

/// The certificates to trust cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresTlsError {
    /// The file of `sslrootcert` is no list of certificates.
    #[error("{} holds no usable PEM certificates", path.display())]
    RootFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system has no certificates to trust.
    #[error("the system trusts no certificate authority: name one with sslrootcert")]
    NoSystemRoots,
    /// The TLS library refused its configuration.
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

/// TLS that trusts the certificates in the file `roots`, or else the system's.
pub(super) fn verified(roots: Option<&Path>) -> Result<Tls, PostgresTlsError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(path) => {
            let unusable = |source| PostgresTlsError::RootFile {
                path: path.to_owned(),
                source,
            };
            let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.into()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(error.into()))?;
                trusted.add(certificate).map_err(|error| unusable(error.into()))?;
            }
            if trusted.is_empty() {
                return Err(unusable("it is empty".into()));
            }
        }
        None => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if trusted.is_empty() {
                return Err(PostgresTlsError::NoSystemRoots);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(Tls::Verified(MakeRustlsConnect::new(config)))
}
