//! A client's line to the network, as the SDK sees it: an HTTP client.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;

use crate::{
    network::Network,
    s3::{Answer, Operation, Request},
};

/// One client's way to the store.
pub fn line(network: &Network, client: u32) -> SharedHttpClient {
    SharedHttpClient::new(Line {
        network: network.clone(),
        client,
    })
}

#[derive(Clone)]
struct Line {
    network: Network,
    client: u32,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.client)
    }
}

impl HttpClient for Line {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (network, client) = (self.network.clone(), self.client);
        HttpConnectorFuture::new(async move {
            let (method, uri) = (request.method().to_owned(), request.uri().to_owned());
            let headers = request.headers().iter();
            let headers = headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let body = request.into_body().collect().await;
            // A copy, as a socket makes it: what the store keeps must not keep the client's memory.
            let body = Bytes::copy_from_slice(&body.map_err(ConnectorError::user)?.to_bytes());
            let request = Request::parse(&method, &uri, headers, body);
            let is_get = request.operation() == Operation::Get;
            match tokio::spawn(network.travel(client, request)).await {
                Ok(Some(answer)) => Ok(response(answer?, is_get)),
                Ok(None) => std::future::pending().await,
                Err(broken) => std::panic::resume_unwind(broken.into_panic()),
            }
        })
    }
}

fn response(answer: Answer, is_get: bool) -> HttpResponse {
    let announced = answer
        .headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .and_then(|(_, value)| value.parse::<usize>().ok());
    let body = match announced {
        Some(announced) if is_get && answer.body.len() < announced => {
            SdkBody::from_body_1_x(BrokenBody(Some(answer.body)))
        }
        _ => SdkBody::from(answer.body),
    };
    let status = StatusCode::try_from(answer.status).unwrap();
    let mut response = HttpResponse::new(status, body);
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Some bytes, and then the connection breaks.
struct BrokenBody(Option<Bytes>);

impl http_body::Body for BrokenBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(match self.0.take() {
            Some(bytes) => Ok(Frame::data(bytes)),
            None => Err(std::io::ErrorKind::ConnectionReset.into()),
        }))
    }
}
