//! How long a token is on its way from the provider to the client of an event stream: through the worker, Redis and the API,
//! and without all that.

use crate::{borrowed, provider, row, world};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

const STREAMS: usize = 12;
const TOKENS: usize = 100;

pub(crate) async fn measure() {
    let base = provider::start();
    let (world, _api, member, settings) = world(&provider::catalogue(&base)).await;
    let _worker = world.process(&["worker", "--pool", "interactive"], &borrowed(&settings));
    let question = json!({
        "model": "bench", "stream": true, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "?"}],
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let direct = || http.post(format!("{base}chat/completions")).json(&question);
    let relayed = || member.client.request(Method::POST, "/api/v1/ai/chat").json(&question);
    times(relayed()).await; // connections and scripts are there from now on
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    // turn and turn about, so that whatever else the machine does weighs on both
    for _ in 0..STREAMS {
        bare.extend(times(direct()).await);
        through.extend(times(relayed()).await);
    }
    row("a token from the provider to its client, nothing between", bare);
    row("a token from the provider to the client of the API", through);
}

/// How long each token of a stream was on its way.
async fn times(request: RequestBuilder) -> Vec<Duration> {
    let response = request.send().await.unwrap().error_for_status().unwrap();
    let mut bytes = response.bytes_stream();
    let (mut unread, mut text, mut times) = (String::new(), String::new(), Vec::new());
    while let Some(chunk) = bytes.next().await {
        let arrived = provider::now();
        unread.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        while let Some((line, rest)) = unread.split_once('\n') {
            if let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") {
                let event: Value = serde_json::from_str(data).unwrap();
                assert!(event["error"].is_null(), "{event}");
                text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            }
            unread = rest.to_owned();
        }
        // two tokens may have come together; one that is not whole waits for its rest
        while let Some((sent, rest)) = text.split_once(' ') {
            times.push(Duration::from_micros(arrived - sent.parse::<u64>().unwrap()));
            text = rest.to_owned();
        }
    }
    assert_eq!(times.len(), TOKENS, "every token arrives once");
    times
}
