//! The largest files go through a real process of the API, and it holds a few parts of them at most.
#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use harness::{Client, Member, Process, World};
use reqwest::{
    Body, Method,
    multipart::{Form, Part},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

const PIECE: usize = 64 << 10;

/// Pieces of the largest file.
const LARGEST: usize = 50 * 1024 * 1024 / PIECE;

const MIB: u64 = 1 << 20;

/// How much more the process may hold at its peak than before.
const MOST: u64 = 16 * MIB;

/// One piece of a file; none is like another.
fn piece(number: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (number as u64 + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let words = (0..PIECE / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect::<Vec<_>>().into()
}

/// Sends a file of so many pieces, made as they are sent; with its hash.
async fn upload(client: &Client, pieces: usize) -> (Value, Vec<u8>) {
    let hash = Arc::new(Mutex::new(Sha256::new()));
    let hashed = hash.clone();
    let bytes = stream::iter(0..pieces).map(move |number| {
        let piece = piece(number);
        hashed.lock().unwrap().update(&piece);
        Ok::<_, Infallible>(piece)
    });
    let part = Part::stream_with_length(Body::wrap_stream(bytes), (pieces * PIECE) as u64).file_name("noise.bin");
    let request = client.request(Method::POST, "/api/v1/files/upload").multipart(Form::new().part("file", part));
    let file = client.send(request).await.expect(201);
    assert_eq!(file["size"], pieces * PIECE);
    let hash = hash.lock().unwrap().clone().finalize().to_vec();
    (file, hash)
}

/// Reads a file piece by piece; its hash.
async fn download(file: &Value) -> Vec<u8> {
    let response = reqwest::get(file["url"].as_str().unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut bytes, mut hash) = (response.bytes_stream(), Sha256::new());
    while let Some(piece) = bytes.next().await {
        hash.update(piece.unwrap());
    }
    hash.finalize().to_vec()
}

/// How much more the process held at its peak while this was done.
async fn growth<T>(process: &Process, work: impl Future<Output = T>) -> (T, u64) {
    let before = process.resident_bytes();
    process.forget_peak();
    let done = work.await;
    (done, process.peak_bytes().saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_file_is_never_in_memory_as_a_whole() {
    let world = World::new().await;
    let process = world.process(&["api"], &[("ATELIER_LOG_FORMAT", "json")]);
    let client = Member::register(&Client::new(process.address().await)).await.client;
    // connections, keys and code are there after the first
    let (small, hash) = upload(&client, 4).await;
    assert_eq!(download(&small).await, hash);

    let ((file, sent), uploading) = growth(&process, upload(&client, LARGEST)).await;
    let (received, downloading) = growth(&process, download(&file)).await;
    assert_eq!(received, sent);
    for (what, grown) in [("uploading", uploading), ("downloading", downloading)] {
        assert!(grown < MOST, "{what} took {} MiB", grown / MIB);
    }
}
