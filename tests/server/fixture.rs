//! A server in a temporary directory, and SDK clients for it.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use strongroom::server::{Server, ServerConfig};
use tempfile::TempDir;

use crate::support::{
    bucket::sdk_config,
    certificates::certificates,
    credentials::SECRET_KEY,
    server::server_config,
    wait::{SOON, wait_until},
};

pub const BUCKET: &str = "bucket";

/// A running server; its directory goes with it.
pub struct Fixture {
    pub server: Server,
    pub client: Client,
    pub dir: TempDir,
}

/// A server with an empty bucket.
pub async fn start() -> Fixture {
    start_with(|_| ()).await
}

pub async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let mut config = server_config(dir.path().join("s3"));
    change(&mut config);
    serve(dir, config, None).await
}

/// A server over TLS, with a certificate for loopback that only its clients trust.
pub async fn start_tls() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (files, authority) = certificates(dir.path());
    let mut config = server_config(dir.path().join("s3"));
    config.tls = Some(files);
    serve(dir, config, Some(&std::fs::read(authority).unwrap())).await
}

async fn serve(dir: TempDir, config: ServerConfig, authority: Option<&[u8]>) -> Fixture {
    let server = Server::start(config).await.unwrap();
    let client = client(&server.endpoint_url(), SECRET_KEY, authority);
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    server.reset_stats();
    Fixture {
        server,
        client,
        dir,
    }
}

/// A client that does not retry, so that each answer is seen.
pub fn client(endpoint: &str, secret_key: &str, ca: Option<&[u8]>) -> Client {
    let mut builder = sdk_config(endpoint, secret_key).retry_config(RetryConfig::disabled());
    if let Some(ca) = ca {
        let trust = TrustStore::empty().with_pem_certificate(ca);
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .unwrap();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        builder = builder.http_client(http);
    }
    Client::from_conf(builder.build())
}

impl Fixture {
    pub async fn put(&self, key: &str, body: impl Into<Vec<u8>>) -> String {
        let body = ByteStream::from(body.into());
        let put = self
            .client
            .put_object()
            .bucket(BUCKET)
            .key(key)
            .body(body)
            .send()
            .await
            .unwrap();
        put.e_tag().unwrap().to_owned()
    }

    /// Begins to read an object.
    pub async fn open(&self, key: &str) -> GetObjectOutput {
        self.try_open(key).await.unwrap()
    }

    pub async fn try_open(&self, key: &str) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        let get = self.client.get_object().bucket(BUCKET).key(key);
        get.send().await
    }

    pub async fn get(&self, key: &str) -> Vec<u8> {
        let got = self.open(key).await;
        got.body.collect().await.unwrap().to_vec()
    }

    pub async fn get_range(&self, key: &str, range: &str) -> Vec<u8> {
        let get = self.client.get_object().bucket(BUCKET).key(key);
        let got = get.range(range).send().await.unwrap();
        got.body.collect().await.unwrap().to_vec()
    }

    pub async fn delete(&self, key: &str) {
        let delete = self.client.delete_object().bucket(BUCKET).key(key);
        delete.send().await.unwrap();
    }

    /// Completes an upload, which must succeed.
    pub async fn complete(&self, key: &str, id: &str, parts: &[(i32, String)]) {
        let complete = self.client.complete_multipart_upload();
        let complete = complete.bucket(BUCKET).key(key).upload_id(id);
        let complete = complete.multipart_upload(completed(parts));
        complete.send().await.unwrap();
    }

    pub async fn begin(&self, key: &str) -> String {
        let upload = self
            .client
            .create_multipart_upload()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
        upload.upload_id().unwrap().to_owned()
    }

    pub async fn part(&self, key: &str, id: &str, number: i32, body: Vec<u8>) -> String {
        let part = self
            .client
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(id)
            .part_number(number);
        let part = part.body(ByteStream::from(body)).send().await.unwrap();
        part.e_tag().unwrap().to_owned()
    }

    /// How many files a directory of the server has.
    pub fn files_in(&self, directory: &str) -> usize {
        let files = std::fs::read_dir(self.dir.path().join(directory));
        files.unwrap().count()
    }

    /// Waits until a condition on the counters holds.
    pub async fn settled(&self, holds: impl Fn(&strongroom::server::StatsSnapshot) -> bool) {
        wait_until("the counters settle", SOON, async || {
            holds(&self.server.stats())
        })
        .await;
    }
}

/// The parts of a completion.
pub fn completed(parts: &[(i32, String)]) -> aws_sdk_s3::types::CompletedMultipartUpload {
    use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
    let parts = parts.iter().map(|(number, etag)| {
        CompletedPart::builder()
            .part_number(*number)
            .e_tag(etag)
            .build()
    });
    CompletedMultipartUpload::builder()
        .set_parts(Some(parts.collect()))
        .build()
}

/// S3's code and the HTTP status of a refused request.
pub fn refusal<T: std::fmt::Debug, E>(result: Result<T, SdkError<E>>) -> (String, u16)
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let error = result.expect_err("a refusal");
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    (error.code().unwrap_or_default().to_owned(), status)
}
