//! A store that takes every PUT, whatever its condition, and has nothing.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::{Method, Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;

/// Serves it for as long as the runtime lives; returns its URL.
pub async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(unconditional));
            tokio::spawn(served);
        }
    });
    url
}

async fn unconditional(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let deleted = "<DeleteResult></DeleteResult>";
    let lists = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("list-type"));
    let names_key = request.uri().path().trim_matches('/').contains('/');
    if matches!(*request.method(), Method::GET | Method::HEAD) && names_key && !lists {
        let missing = "<Error><Code>NoSuchKey</Code></Error>";
        return Ok(Response::builder()
            .status(404)
            .body(Full::from(missing))
            .unwrap());
    }
    let body = match *request.method() {
        Method::GET => listing,
        Method::POST => deleted,
        _ => "",
    };
    let length = request
        .headers()
        .get("content-length")
        .and_then(|len| len.to_str().ok()?.parse().ok())
        .unwrap_or(0_usize);
    let received = http_body_util::BodyExt::collect(request.into_body())
        .await
        .map_or(0, |body| body.to_bytes().len());
    assert_eq!(received, length);
    Ok(Response::builder()
        .header("etag", "\"1\"")
        .body(Full::from(body))
        .unwrap())
}
