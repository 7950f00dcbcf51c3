//! Certificates for TLS to a server on this machine, by its address.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use strongroom::server::TlsFiles;

/// A certificate for 127.0.0.1, and for no name, under an authority of its own, written to `dir`:
/// the server's files, and the authority's.
pub fn certificates(dir: &Path) -> (TlsFiles, PathBuf) {
    let authority_key = KeyPair::generate().expect("key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority
        .self_signed(&authority_key)
        .expect("authority")
        .pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("key");
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .expect("parameters")
        .signed_by(&key, &issuer)
        .expect("certificate");
    let files = TlsFiles {
        cert: dir.join("server.pem"),
        key: dir.join("server.key"),
    };
    let authority_file = dir.join("authority.pem");
    fs::write(&authority_file, authority_pem).expect("authority");
    fs::write(&files.cert, certificate.pem()).expect("certificate");
    fs::write(&files.key, key.serialize_pem()).expect("key");
    (files, authority_file)
}
