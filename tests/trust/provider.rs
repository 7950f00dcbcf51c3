//! The provider's side: pictures of the bucket, shown again later; and a proxy that gives answers
//! of its own.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use aws_sdk_s3::Client;
use tokio::runtime::Runtime;

use crate::harness::{BUCKET, Site};

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
        self.runtime.block_on(async {
            let mut listing = BTreeMap::new();
            let mut pages = self
                .client
                .list_objects_v2()
                .bucket(BUCKET)
                .into_paginator()
                .send();
            while let Some(page) = pages.next().await {
                for object in page.unwrap().contents() {
                    let etag = object.e_tag().unwrap().to_owned();
                    listing.insert(object.key().unwrap().to_owned(), etag);
                }
            }
            listing
        })
    }

    pub fn keys(&self) -> Vec<String> {
        self.listing().into_keys().collect()
    }

    pub fn picture(&self) -> Picture {
        let mut picture = Picture::new();
        for key in self.keys() {
            // What a mount deletes meanwhile is in no later picture either.
            if let Some(object) = self.get(&key) {
                picture.insert(key, object);
            }
        }
        picture
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(async {
            let request = self.client.get_object().bucket(BUCKET).key(key);
            let body = request.send().await.ok()?.body;
            Some(body.collect().await.unwrap().into_bytes().to_vec())
        })
    }

    pub fn put(&self, key: &str, object: &[u8]) {
        self.runtime.block_on(async {
            let request = self.client.put_object().bucket(BUCKET).key(key);
            request.body(object.to_vec().into()).send().await.unwrap();
        });
    }

    pub fn delete(&self, key: &str) {
        self.runtime.block_on(async {
            let request = self.client.delete_object().bucket(BUCKET).key(key);
            request.send().await.unwrap();
        });
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

/// Between client and server: some requests are answered here, with a status and an empty body.
pub struct Proxy {
    pub url: String,
    answered: Arc<AtomicUsize>,
}

/// Decides by the first line of a request, such as `GET /vault?list-type=2 HTTP/1.1`, and by how
/// many were answered here before.
type Rule = dyn Fn(&str, usize) -> Option<u16> + Send + Sync;

impl Proxy {
    /// Serves until the process ends.
    pub fn before(
        server: SocketAddr,
        rule: impl Fn(&str, usize) -> Option<u16> + Send + Sync + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answered = Arc::new(AtomicUsize::new(0));
        let (rule, count): (Arc<Rule>, _) = (Arc::new(rule), Arc::clone(&answered));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rule, count) = (Arc::clone(&rule), Arc::clone(&count));
                // A client that goes away in the middle ends its connection and nothing else.
                thread::spawn(move || one_request(stream, server, rule.as_ref(), &count));
            }
        });
        Proxy { url, answered }
    }

    /// Requests that were answered here.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

/// One request a connection, so that each can be looked at.
fn one_request(
    mut client: TcpStream,
    server: SocketAddr,
    rule: &Rule,
    answered: &AtomicUsize,
) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let first = text.lines().next().unwrap();
    if let Some(status) = rule(first, answered.load(Ordering::SeqCst)) {
        answered.fetch_add(1, Ordering::SeqCst);
        let answer =
            format!("HTTP/1.1 {status} Answer\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        client.write_all(answer.as_bytes())?;
        client.shutdown(Shutdown::Write)?;
        // What is left of the request is taken, or the answer could be lost to a reset.
        client.set_read_timeout(Some(Duration::from_secs(2)))?;
        return io::copy(&mut client, &mut io::sink()).map(|_| ());
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&head[..head.len() - 2])?;
    upstream.write_all(b"connection: close\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || io::copy(&mut from_client, &mut to_server));
    io::copy(&mut upstream, &mut client)?;
    client.shutdown(Shutdown::Both)
}
