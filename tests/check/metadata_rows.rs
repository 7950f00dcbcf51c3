//! The rows of a volume's metadata, as docs/format.md has them.

use std::sync::Arc;

use slatedb::Db;
use strongroom::{
    seal::{
        object_store::SealedObjectStore,
        volume::{Secret, VolumeHeader},
    },
    store::{Store, StoreConfig},
    telemetry::Metrics,
};

use crate::support::{credentials::set_environment, server::unconnected, site::Site};

/// The rows of a volume's metadata, as docs/format.md has them.
pub struct Rows {
    pub db: Db,
}

impl Rows {
    pub async fn open(site: &Site, url: &str) -> Rows {
        let sealed = Rows::sealed(site, url).await;
        Rows {
            db: Db::builder("", sealed).build().await.unwrap(),
        }
    }

    /// The sealed store under the metadata.
    pub async fn sealed(site: &Site, url: &str) -> Arc<SealedObjectStore> {
        let store = Rows::store(site, url).await;
        let header = VolumeHeader::load(&store).await.unwrap().header;
        let secret = Secret::key_file_from(&site.path().join("key")).unwrap();
        let keys = header.unlock(&secret).unwrap().keys;
        Arc::new(SealedObjectStore::new(store, keys, 4 << 20))
    }

    /// The volume's objects.
    pub async fn store(site: &Site, url: &str) -> Store {
        set_environment();
        let config = StoreConfig {
            url: url.parse().unwrap(),
            endpoint_url: Some(site.endpoint.clone()),
            ..unconnected()
        };
        let store = Store::connect(config, Arc::new(Metrics::default()));
        store.await.unwrap()
    }

    pub async fn all(&self, table: u8) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = self.db.scan(vec![table]..vec![table + 1]).await.unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            all.push((row.key.to_vec(), row.value.to_vec()));
        }
        all
    }

    pub async fn put(&self, key: Vec<u8>, value: Vec<u8>) {
        self.db.put(key, value).await.unwrap();
    }

    pub async fn delete(&self, key: Vec<u8>) {
        self.db.delete(key).await.unwrap();
    }

    pub async fn get(&self, key: &[u8]) -> Vec<u8> {
        self.db.get(key).await.unwrap().expect("a row").to_vec()
    }

    /// The entry of a path: its directory, its inode, its cookie.
    pub async fn entry(&self, path: &str) -> (u64, u64, u64) {
        let (mut dir, mut found) = (1, (1, 1, 0));
        for name in path.split('/') {
            let value = self.get(&key(0x20, dir, name.as_bytes())).await;
            let numbers = varints(&value[2..]);
            let cookie = if numbers[1] == 0 {
                numbers[0]
            } else {
                numbers[1]
            };
            found = (dir, numbers[0], cookie);
            dir = numbers[0];
        }
        found
    }

    pub async fn ino(&self, path: &str) -> u64 {
        self.entry(path).await.1
    }

    /// The extents of a file: start, end, session, object, offset in it.
    pub async fn extents(&self, path: &str) -> Vec<(u64, u64, u64, u64, u64)> {
        let ino = self.ino(path).await;
        let rows = self.all(0x30).await.into_iter();
        rows.filter(|(key, value)| key[1..9] == ino.to_be_bytes() && value[0] == 1)
            .map(|(key, value)| {
                let end = u64::from_be_bytes(key[9..17].try_into().unwrap());
                let numbers = varints(&value[1..]);
                (end - numbers[0], end, numbers[1], numbers[2], numbers[3])
            })
            .collect()
    }

    pub async fn object_of(&self, path: &str, at: u64) -> (String, u64) {
        let extents = self.extents(path).await;
        let found = extents
            .iter()
            .find(|extent| extent.0 <= at && at < extent.1);
        let (start, _, session, number, offset) = *found.expect("not in a hole");
        let mut row_key = vec![0x51];
        row_key.extend_from_slice(&(session as u32).to_be_bytes());
        let row = self.get(&row_key).await;
        let id = data_encoding::HEXLOWER.encode(&row[2..18]);
        (format!("data/{id}/{number:016x}"), offset + (at - start))
    }
}

/// A key of a table with a number, and what follows.
pub fn key(table: u8, number: u64, rest: &[u8]) -> Vec<u8> {
    let mut key = vec![table];
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

/// The key of an object in one of the tables of objects.
pub fn object_row(table: u8, session: u64, number: u64) -> Vec<u8> {
    let mut key = vec![table];
    key.extend_from_slice(&(session as u32).to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// All varints of these bytes.
pub fn varints(bytes: &[u8]) -> Vec<u64> {
    let (mut all, mut value, mut shift) = (Vec::new(), 0u64, 0);
    for byte in bytes {
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            all.push(value);
            (value, shift) = (0, 0);
        }
    }
    all
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A value: its form byte, and these numbers.
pub fn value(numbers: &[u64]) -> Vec<u8> {
    let mut bytes = vec![1];
    for number in numbers {
        bytes.extend(varint(*number));
    }
    bytes
}

/// An inode's value with another number in place `index` (0: mode, 1: uid, 2: gid, 3: links).
pub fn with_number(inode: &[u8], index: usize, number: u64) -> Vec<u8> {
    let mut numbers = varints(&inode[3..]);
    numbers[index] = number;
    let mut bytes = inode[..3].to_vec();
    for number in numbers {
        bytes.extend(varint(number));
    }
    bytes
}

/// An inode's value with another number in the last place but `index` (a file's: 0 allocated, 1
/// size; a directory's: 0 names, 1 parent).
pub fn with_last_number(inode: &[u8], index: usize, number: u64) -> Vec<u8> {
    let count = varints(&inode[3..]).len();
    with_number(inode, count - 1 - index, number)
}
