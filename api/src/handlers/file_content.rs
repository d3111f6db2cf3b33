//! The bytes of a file, for whoever has its signed URL.
//!
//! The API serves them and not the store: so a deleted file is gone at once, and no browser takes the bytes for anything else
//! than they are said to be.

use super::{files::missing, uploads::storage_failed};
use crate::{
    edge::{BodyUnwanted, RequestId},
    error::{ApiError, Code},
    file_urls::is_good,
    state::State,
};
use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    body::SizedStream,
    get,
    http::{
        StatusCode,
        header::{
            ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, Charset, ContentDisposition, DispositionParam,
            DispositionType, ETAG, ExtendedValue, HeaderMap, HeaderValue, IF_RANGE, RANGE, Range,
        },
    },
    web,
};
use futures_util::stream;
use serde::Deserialize;
use shared::models::File;
use std::ops::RangeInclusive;
use utoipa::IntoParams;
use uuid::Uuid;

/// What makes a URL one of ours.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Signed {
    /// Until when it works, in seconds since 1970.
    #[param(value_type = i64)]
    expires: Option<String>,
    /// Of the file and that time.
    #[param(required)]
    signature: Option<String>,
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Whole,
    Bytes(RangeInclusive<u64>),
    /// Bytes that it does not have.
    Nothing,
}

/// The bytes of a file
///
/// This is where `url` of a file leads. It needs no credentials, and is not limited.
#[utoipa::path(
    tag = "files",
    params(("id" = Uuid, Path), Signed),
    responses(
        (status = 200, description = "The bytes, with the type of the file", content_type = "application/octet-stream", body = String),
        (status = 206, description = "The bytes that `Range` asks for"),
        (status = 403, description = "The URL is not one of ours, or has expired"),
        (status = 404, description = "The file was deleted"),
        (status = 416, description = "It does not have the bytes that `Range` asks for"),
        (status = 502, description = "The object store failed"),
    ),
)]
#[get("/files/{id}/content")]
pub(crate) async fn get_file_content(
    state: web::Data<State>,
    id: web::Path<Uuid>,
    signed: web::Query<Signed>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let Signed { expires, signature } = signed.into_inner();
    let expires = expires.and_then(|expires| expires.parse().ok());
    let good = expires
        .zip(signature)
        .is_some_and(|(expires, signature)| is_good(&state.config.jwt_secret, *id, expires, &signature));
    if !good {
        return Err(ApiError::forbidden(
            "This URL is not valid, or has expired; read the file again to get another one",
        ));
    }
    let file = File::find_of_anyone(&mut *state.conn().await?, *id).await?.ok_or_else(missing)?;
    let size = u64::try_from(file.size).unwrap_or_default();
    let wanted = wanted(request.headers(), size, &etag(&file));
    if wanted == Wanted::Nothing {
        return Ok(out_of_range(&request, size));
    }
    let without_body = request.extensions().contains::<BodyUnwanted>();
    answer(&state, &file, size, wanted, without_body).await
}

async fn answer(
    state: &State,
    file: &File,
    size: u64,
    wanted: Wanted,
    without_body: bool,
) -> Result<HttpResponse, ApiError> {
    let (status, range) = match wanted {
        Wanted::Bytes(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Whole | Wanted::Nothing => (StatusCode::OK, None),
    };
    let mut answer = HttpResponse::build(status);
    answer
        .insert_header((CONTENT_TYPE, HeaderValue::try_from(&file.mime_type).unwrap_or(UNKNOWN)))
        .insert_header(attachment(&file.filename))
        .insert_header((ACCEPT_RANGES, "bytes"))
        .insert_header((ETAG, etag(file)))
        // a deleted file is gone, and no cache is to bring it back
        .insert_header((CACHE_CONTROL, "private, no-store"));
    let length = match &range {
        Some(range) => {
            answer.insert_header((CONTENT_RANGE, format!("bytes {}-{}/{size}", range.start(), range.end())));
            range.end() - range.start() + 1
        }
        None => size,
    };
    if without_body || length == 0 {
        return Ok(answer.body(SizedStream::new(length, stream::empty::<Result<web::Bytes, ApiError>>())));
    }
    let bytes = state.storage.open(&file.s3_key, range).await.map_err(storage_failed)?;
    let bytes = bytes.ok_or_else(|| storage_failed(anyhow::anyhow!("{} is not in the store", file.s3_key)))?;
    Ok(answer.body(SizedStream::new(length, Box::pin(bytes))))
}

const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// The bytes of a file never change.
fn etag(file: &File) -> String {
    format!("\"{}\"", file.id)
}

/// Several ranges at once, and ranges of another version, are answered with the whole, as they may be.
fn wanted(headers: &HeaderMap, size: u64, etag: &str) -> Wanted {
    let is_other = headers.get(IF_RANGE).is_some_and(|version| version.as_bytes() != etag.as_bytes());
    let range = headers.get(RANGE).filter(|_| !is_other).and_then(|range| range.to_str().ok()?.parse().ok());
    match range {
        Some(Range::Bytes(ranges)) if ranges.len() == 1 => match ranges[0].to_satisfiable_range(size) {
            Some((first, last)) => Wanted::Bytes(first..=last),
            None => Wanted::Nothing,
        },
        Some(Range::Bytes(_) | Range::Unregistered(..)) | None => Wanted::Whole,
    }
}

fn out_of_range(request: &HttpRequest, size: u64) -> HttpResponse {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let error = ApiError::new(Code::Validation, format!("The file has {size} bytes, and none of those asked for"));
    HttpResponse::RangeNotSatisfiable().insert_header((CONTENT_RANGE, format!("bytes */{size}"))).json(error.body(&id))
}

/// For old clients in ASCII, for the others as it is.
fn attachment(filename: &str) -> ContentDisposition {
    let plain = filename.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\') { c } else { '_' }).collect();
    let extended = ExtendedValue {
        charset: Charset::Ext("UTF-8".to_owned()),
        language_tag: None,
        value: filename.as_bytes().to_vec(),
    };
    ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::Filename(plain), DispositionParam::FilenameExt(extended)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &'static str, version: Option<&'static str>) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static(range));
        if let Some(version) = version {
            headers.insert(IF_RANGE, HeaderValue::from_static(version));
        }
        wanted(&headers, 100, "\"v\"")
    }

    #[test]
    fn one_range_is_answered_as_it_is_asked() {
        for (range, expected) in [
            ("bytes=0-0", Wanted::Bytes(0..=0)),
            ("bytes=10-19", Wanted::Bytes(10..=19)),
            ("bytes=90-", Wanted::Bytes(90..=99)),
            ("bytes=90-1000", Wanted::Bytes(90..=99)),
            ("bytes=-5", Wanted::Bytes(95..=99)),
            ("bytes=-1000", Wanted::Bytes(0..=99)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=9-1", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("nonsense", Wanted::Whole),
        ] {
            assert_eq!(asked(range, None), expected, "{range}");
        }
        assert_eq!(asked("bytes=0-0", Some("\"v\"")), Wanted::Bytes(0..=0));
        assert_eq!(asked("bytes=0-0", Some("\"w\"")), Wanted::Whole, "another version");
        assert_eq!(wanted(&HeaderMap::new(), 100, ""), Wanted::Whole);
    }

    #[test]
    fn names_of_any_script_are_told_in_a_header() {
        let told = attachment("Größe \"10\".txt").to_string();
        assert!(
            told.starts_with("attachment; filename=\"Gr__e _10_.txt\"; filename*=UTF-8''Gr%C3%B6%C3%9Fe"),
            "{told}"
        );
    }
}
