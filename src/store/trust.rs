//! The certificate authorities that are trusted.

use std::path::PathBuf;

use aws_smithy_http_client::tls;
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The form that a bundle must have.
const PEM: &str = "put the certificates of the authorities into it, in PEM form";

/// The authorities to trust: those of `bundle` instead of the system's. Everything in it must parse
/// here, because the TLS layer would panic on it.
pub(super) async fn trust_store(
    bundle: Option<PathBuf>,
) -> Result<tls::TrustStore, (String, &'static str)> {
    let Some(path) = bundle else {
        return Ok(tls::TrustStore::default());
    };
    let name = path.display();
    let pem = tokio::fs::read(&path).await.map_err(|error| {
        (
            format!("the CA bundle {name} cannot be read: {error}"),
            "correct --ca-bundle, AWS_CA_BUNDLE or the profile's ca_bundle",
        )
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|error| (format!("the CA bundle {name} is not PEM: {error}"), PEM))?;
        roots.add(certificate).map_err(|error| {
            (
                format!("the CA bundle {name} holds a bad certificate: {error}"),
                PEM,
            )
        })?;
    }
    if roots.is_empty() {
        return Err((format!("the CA bundle {name} holds no certificate"), PEM));
    }
    Ok(tls::TrustStore::empty().with_pem_certificate(pem))
}
