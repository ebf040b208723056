//! TLS for `tls://` listeners: the files it needs, and what is made of them.
//!
//! TLS 1.2 and 1.3. Nothing is kept for resumption: connections of exporters last for weeks, and one that never reads would
//! be reset for the tickets that it left unread.

use super::error::CollectError;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `[collector.tls]`: what `tls://` listeners need. They share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A PEM file with our certificate, and behind it those that lead to the authority that exporters trust.
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key, not encrypted.
    pub key: Option<PathBuf>,
    /// A PEM file with the authorities whose certificates exporters must show; without it they need none.
    pub client_ca: Option<PathBuf>,
}

impl Settings {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CollectError::Tls`] for the first file that is missing or of no use.
    pub(super) fn load(&self) -> Result<Arc<ServerConfig>, CollectError> {
        let certificate = named("certificate", self.certificate.as_deref())?;
        let key = named("key", self.key.as_deref())?;
        let chain = certificates("certificate", certificate)?;
        let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            let wanted = "holds no private key (PKCS#8, PKCS#1 or SEC1) that is not encrypted";
            refuse("key", key, &told(&error, wanted))
        })?;
        let verifier: Arc<dyn ClientCertVerifier> = match self.client_ca.as_deref() {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates("client_ca", path)? {
                    roots.add(authority).map_err(|error| refuse("client_ca", path, &error.to_string()))?;
                }
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()))
                    .build()
                    .map_err(|error| refuse("client_ca", path, &error.to_string()))?
            }
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, private_key))
            .map_err(|error| {
                let files = format!("cannot be used with the certificate in {}: {error}", certificate.display());
                refuse("key", key, &files)
            })?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// The path of a setting that must be there.
fn named<'a>(key: &'static str, path: Option<&'a Path>) -> Result<&'a Path, CollectError> {
    path.ok_or(CollectError::TlsMissing { key })
}

/// All certificates in a file, at least one.
fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CollectError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let wanted = "holds no certificate";
    match read() {
        Ok(certificates) if certificates.is_empty() => Err(refuse(key, path, wanted)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(refuse(key, path, &told(&error, wanted))),
    }
}

/// What is wrong with a PEM file.
fn told(error: &pem::Error, wanted: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        pem::Error::NoItemsFound => wanted.to_owned(),
        other => format!("is no good PEM file: {other}"),
    }
}

fn refuse(key: &'static str, path: &Path, problem: &str) -> CollectError {
    CollectError::Tls { key, path: path.to_owned(), problem: problem.to_owned() }
}
