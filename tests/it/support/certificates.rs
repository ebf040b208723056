//! Certificates for tests, made by the installed `openssl`: authorities, and holders that they vouch for at 127.0.0.1.
//!
//! The collector's own tests take this file, too.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of certificates, each as `NAME.pem` with its key in `NAME.key`.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// No certificates yet.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = "[req]\ndistinguished_name = name\n[name]\n[authority]\nbasicConstraints = critical, CA:TRUE\n\
                        [holder]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1\n";
        std::fs::write(folder.path().join("openssl.cnf"), settings).unwrap();
        Self { folder }
    }

    /// The file of this name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes an authority that vouches for itself.
    pub fn authority(&self, name: &str) {
        self.request(name, "authority", &[]);
    }

    /// Makes a certificate that `authority` vouches for.
    pub fn issue(&self, authority: &str, name: &str) {
        let (certificate, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        self.request(name, "holder", &["-CA", &certificate, "-CAkey", &key]);
    }

    fn request(&self, name: &str, kind: &str, issuer: &[&str]) {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-config", "openssl.cnf", "-extensions", kind, "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}")])
            .args(["-out", &format!("{name}.pem"), "-keyout", &format!("{name}.key")])
            .args(issuer)
            .current_dir(self.folder.path())
            .output()
            .expect("openssl is needed: apt-get install openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// How a client speaks TLS that trusts the authority of this file and shows the certificate of a name, if it has one.
pub fn client(
    certificates: &Certificates,
    authority: &Path,
    own: Option<&str>,
    version: &'static rustls::SupportedProtocolVersion,
) -> rustls::ClientConfig {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    }
}
