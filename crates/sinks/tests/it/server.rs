//! A tiny HTTP server that keeps what it is sent and answers as it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, Uri};
use tokio::task::JoinHandle;

/// One request.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its number, from 0.
    pub number: usize,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    /// The JSON values of the body, line by line.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.body.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start<F>(answer: impl Fn(Got) -> F + Clone + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response> + Send,
    {
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let handle = move |request: Request| {
            let (answer, counted) = (answer.clone(), Arc::clone(&counted));
            async move {
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let (head, body) = request.into_parts();
                let body = to_bytes(body, 64 << 20).await.unwrap();
                answer(Got { number, uri: head.uri, headers: head.headers, body }).await
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(handle);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, requests, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

pub fn answer(status: u16, body: impl Into<axum::body::Body>) -> Response {
    Response::builder().status(status).body(body.into()).unwrap()
}

pub async fn hang() -> Response {
    std::future::pending().await
}
