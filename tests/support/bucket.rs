//! The bucket as the provider sees it: keys and stored bytes, over the SDK.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region, retry::RetryConfig};

use super::{
    credentials::{ACCESS_KEY, SECRET_KEY},
    server::ServerThread,
};

/// The bucket of each site.
pub const BUCKET: &str = "vault";

/// The configuration of a client of the SDK for a server with the tests' key pair.
pub fn sdk_config(endpoint: &str, secret: &str) -> Builder {
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "test"))
        .region(Region::new("us-east-1"))
        .force_path_style(true)
}

/// A client of the SDK.
pub fn sdk_client(endpoint: &str) -> Client {
    Client::from_conf(sdk_config(endpoint, SECRET_KEY).build())
}

/// A client that does not retry, so that a test sees each answer.
pub fn sdk_client_without_retries(endpoint: &str) -> Client {
    let config = sdk_config(endpoint, SECRET_KEY).retry_config(RetryConfig::disabled());
    Client::from_conf(config.build())
}

/// An object in a listing.
pub struct Listed {
    pub key: String,
    pub bytes: u64,
    pub etag: String,
}

/// Everything in the bucket, or the SDK's error as text.
pub async fn list(client: &Client) -> Result<Vec<Listed>, String> {
    let mut found = Vec::new();
    let list = client.list_objects_v2().bucket(BUCKET);
    let mut pages = list.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| format!("{error:?}"))?;
        found.extend(page.contents().iter().map(|object| Listed {
            key: object.key().unwrap_or_default().to_owned(),
            bytes: object.size().unwrap_or(0).unsigned_abs(),
            etag: object.e_tag().unwrap_or_default().to_owned(),
        }));
    }
    Ok(found)
}

/// The contents of an object, or the SDK's error as text.
pub async fn get(client: &Client, key: &str) -> Result<Vec<u8>, String> {
    let get = client.get_object().bucket(BUCKET).key(key);
    let object = get.send().await.map_err(|error| format!("{error:?}"))?;
    let body = object.body.collect().await;
    body.map(|body| body.to_vec())
        .map_err(|error| error.to_string())
}

/// Whether the store took the object.
pub async fn put(client: &Client, key: &str, bytes: Vec<u8>) -> bool {
    let put = client.put_object().bucket(BUCKET).key(key);
    put.body(bytes.into()).send().await.is_ok()
}

/// Whether the store deleted the object.
pub async fn delete(client: &Client, key: &str) -> bool {
    let delete = client.delete_object().bucket(BUCKET).key(key);
    delete.send().await.is_ok()
}

/// The bucket, for as long as its server.
pub struct Bucket<'a> {
    server: &'a ServerThread,
    client: Client,
}

impl<'a> Bucket<'a> {
    /// `endpoint` may be that of a proxy.
    pub fn new(server: &'a ServerThread, endpoint: &str) -> Bucket<'a> {
        Bucket {
            server,
            client: sdk_client(endpoint),
        }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Each key and the length of its object.
    pub fn sizes(&self) -> Vec<(String, u64)> {
        let listed = self.server.block_on(list(&self.client)).expect("listing");
        let sizes = listed.into_iter().map(|object| (object.key, object.bytes));
        sizes.collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.sizes().into_iter().map(|(key, _)| key).collect()
    }

    pub fn get(&self, key: &str) -> Vec<u8> {
        self.server
            .block_on(get(&self.client, key))
            .expect("object")
    }

    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        assert!(self.server.block_on(put(&self.client, key, bytes)), "put");
    }

    /// The keys of uploads that were not ended.
    pub fn uploads(&self) -> Vec<String> {
        let list = self.client.list_multipart_uploads().bucket(BUCKET);
        let listed = self.server.block_on(list.send()).expect("uploads");
        let keys = listed.uploads().iter().filter_map(|upload| upload.key());
        keys.map(str::to_owned).collect()
    }

    /// Aborts them.
    pub fn abort_uploads(&self) {
        let list = self.client.list_multipart_uploads().bucket(BUCKET);
        let listed = self.server.block_on(list.send()).expect("uploads");
        for upload in listed.uploads() {
            let abort = self.client.abort_multipart_upload().bucket(BUCKET);
            let abort = abort.set_key(upload.key.clone());
            let abort = abort.set_upload_id(upload.upload_id.clone());
            self.server.block_on(abort.send()).expect("aborted");
        }
    }

    pub fn create(&self) {
        let create = self.client.create_bucket().bucket(BUCKET);
        self.server.block_on(create.send()).expect("bucket");
    }

    pub fn delete(&self, key: &str) {
        assert!(self.server.block_on(delete(&self.client, key)), "delete");
    }
}

/// Requests that write, by the server's count.
pub fn puts(stats: &strongroom::server::StatsSnapshot) -> u64 {
    [
        "PutObject",
        "UploadPart",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
    ]
    .iter()
    .map(|operation| stats.count(operation))
    .sum()
}
