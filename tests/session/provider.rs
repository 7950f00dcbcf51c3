//! The provider's side: pictures of the bucket, shown again later; and a proxy that gives answers
//! of its own.

use std::collections::BTreeMap;

use aws_sdk_s3::Client;
use tokio::runtime::Runtime;

use crate::support::{
    bucket::{delete, get, list, put},
    raw_store::{Answer, RawStore},
    site::Site,
};

/// Everything in the bucket at one time: keys and contents.
pub type Picture = BTreeMap<String, Vec<u8>>;

/// The bucket, looked at and changed by its operator.
pub struct Provider {
    client: Client,
    runtime: Runtime,
}

impl Provider {
    pub fn of(site: &Site) -> Provider {
        Provider {
            client: site.bucket().client(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Keys and ETags.
    pub fn listing(&self) -> BTreeMap<String, String> {
        let listed = self.runtime.block_on(list(&self.client)).unwrap();
        let tags = listed.into_iter().map(|object| (object.key, object.etag));
        tags.collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.listing().into_keys().collect()
    }

    pub fn picture(&self) -> Picture {
        let mut picture = Picture::new();
        for key in self.keys() {
            // An object that a mount deletes meanwhile is in no later picture either.
            if let Some(object) = self.get(&key) {
                picture.insert(key, object);
            }
        }
        picture
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(get(&self.client, key)).ok()
    }

    pub fn put(&self, key: &str, object: &[u8]) {
        let put = put(&self.client, key, object.to_vec());
        assert!(self.runtime.block_on(put), "put {key}");
    }

    pub fn delete(&self, key: &str) {
        let delete = delete(&self.client, key);
        assert!(self.runtime.block_on(delete), "delete {key}");
    }

    /// Makes the bucket what it was.
    pub fn show(&self, picture: &Picture) {
        for key in self.keys() {
            if !picture.contains_key(&key) {
                self.delete(&key);
            }
        }
        for (key, object) in picture {
            self.put(key, object);
        }
    }
}

/// A store between client and server, which answers some requests itself with a status and an empty
/// body. `rule` decides by the first line of a request, such as `GET /vault?list-type=2 HTTP/1.1`,
/// and by how many were answered so before.
pub fn answering(
    site: &Site,
    rule: impl Fn(&str, usize) -> Option<u16> + Send + 'static,
) -> RawStore {
    let mut answered = 0;
    RawStore::start(Some(&site.endpoint), move |request| {
        match rule(request.line(), answered) {
            Some(status) => {
                answered += 1;
                Answer::whole(&format!("{status} Answer"), "Connection: close\r\n", b"")
            }
            None => Answer::Pass,
        }
    })
}
