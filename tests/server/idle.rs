//! Connections that say nothing are closed, so that they keep nobody out.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{start, start_with};

/// Longer than the server waits for the head of a request.
const LATER: Duration = Duration::from_secs(31);

/// Whether the server has closed the connection, or answered and closed it.
async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest));
    read.await.is_ok()
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_head_are_closed() {
    let fixture = start_with(|config| {
        config.stats_listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let ports = [
        fixture.server.local_addr(),
        fixture.server.stats_addr().unwrap(),
    ];
    let mut sockets = Vec::new();
    for port in ports {
        for said in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-more: "] {
            let mut socket = TcpStream::connect(port).await.unwrap();
            socket.write_all(said.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
    }
    // Time for the server to take what was said; then the clock is put forward.
    tokio::time::sleep(Duration::from_millis(200)).await;
    tokio::time::pause();
    tokio::time::advance(LATER).await;
    tokio::time::resume();
    for (number, socket) in sockets.iter_mut().enumerate() {
        assert!(is_closed(socket).await, "connection {number}");
    }
    fixture.put("key", "value").await;
}

/// The number of connections that the server takes at once.
const CONNECTIONS_MAX: usize = 512;

#[tokio::test]
async fn the_server_is_not_starved_by_as_many_connections_as_it_takes() {
    let fixture = start().await;
    let address = fixture.server.local_addr();
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut waiting = TcpStream::connect(address).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    waiting.write_all(request).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(LATER).await;
    tokio::time::resume();
    assert!(is_closed(&mut waiting).await, "an answer came");
}
