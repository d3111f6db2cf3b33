//! Uploading a file of any kind.

use super::{
    form::{EMPTY, Form, MAX_FILE_BYTES, MISSING, TWICE, base_name, too_large},
    sending::Sending,
};
use crate::{
    auth::Caller,
    error::{ApiError, Detail},
    file_urls::FileUrls,
    idempotency::once,
    state::State,
    views::FileView,
};
use actix_multipart::{Field, Multipart};
use actix_web::{HttpRequest, HttpResponse, http::header::ContentDisposition, post, web};
use diesel::result::DatabaseErrorKind;
use diesel_async::AsyncPgConnection;
use shared::{
    models::{File, FileUpload, NewFile},
    storage,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// A file to be kept.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the parts of the form; they are read as they come")]
pub(crate) struct UploadFile {
    /// At most 50 MB (52,428,800 bytes), and not empty.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// What came in the form.
struct Received {
    filename: String,
    size: u64,
}

/// Upload a file
///
/// Its name loses any folders. Its type is that of the part, or else what its first bytes say.
#[utoipa::path(
    tag = "files",
    security(("bearer" = [])),
    request_body(content = UploadFile, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "The file", body = FileView),
        (status = 502, description = "The object store failed; nothing was kept"),
    ),
)]
#[post("/files/upload")]
pub(crate) async fn upload_file(
    state: web::Data<State>,
    caller: Caller,
    request: HttpRequest,
    form: Multipart,
) -> Result<HttpResponse, ApiError> {
    let id = Uuid::now_v7();
    let mut sending = Sending::new(&state, storage::uploaded_file_key(caller.user_id, id));
    match receive(&state, &caller, id, Form::new(form), &mut sending).await {
        Ok(file) => {
            sending.keep();
            Ok(HttpResponse::Created().json(FileView::new(file, &FileUrls::new(&request, &state))))
        }
        Err(refusal) => {
            sending.give_up().await;
            Err(refusal)
        }
    }
}

/// Reads the form, stores the file, and makes its row.
async fn receive(
    state: &State,
    caller: &Caller,
    id: Uuid,
    mut form: Form,
    sending: &mut Sending,
) -> Result<File, ApiError> {
    let Received { filename, size } = read(&mut form, sending).await?;
    let file = NewFile {
        id,
        organization_id: caller.organization_id,
        user_id: caller.user_id,
        orchestration_id: None,
        filename,
        size: i64::try_from(size).map_err(ApiError::internal)?,
        mime_type: sending.finish().await?,
        s3_key: storage::uploaded_file_key(caller.user_id, id),
    };
    once(&mut *state.conn().await?, async |conn| insert(conn, &file).await).await
}

async fn insert(conn: &mut AsyncPgConnection, file: &NewFile) -> Result<File, ApiError> {
    if !FileUpload::finish(conn, &file.s3_key).await? {
        return Err(ApiError::conflict("The upload took so long that it was given up; send the file again"));
    }
    match File::insert_one(conn, file).await {
        // the account went while the file came
        Err(diesel::result::Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => {
            Err(ApiError::unauthenticated())
        }
        inserted => Ok(inserted?),
    }
}

/// Reads a form to its end.
async fn read(form: &mut Form, sending: &mut Sending) -> Result<Received, ApiError> {
    let mut received = None;
    let mut problems = Vec::new();
    while let Some(field) = form.next().await? {
        match field.name() {
            Some("file") if received.is_none() => received = Some(read_file(form, field, sending).await?),
            Some("file") => {
                problems.push(Detail::new("file", TWICE));
                form.skip(field).await?;
            }
            Some(_) | None => form.skip(field).await?,
        }
    }
    match &received {
        None => problems.push(Detail::new("file", MISSING)),
        Some(Received { size: 0, .. }) => problems.push(Detail::new("file", EMPTY)),
        Some(Received { size, .. }) if *size > MAX_FILE_BYTES => problems.push(Detail::new("file", too_large())),
        Some(_) => {}
    }
    received.filter(|_| problems.is_empty()).ok_or_else(|| ApiError::invalid(problems))
}

async fn read_file(form: &mut Form, mut field: Field, sending: &mut Sending) -> Result<Received, ApiError> {
    let filename = filename(field.content_disposition());
    sending.declare(field.content_type().map(ToString::to_string));
    let mut size = 0_u64;
    while let Some(piece) = form.piece(&mut field).await? {
        size += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if size <= MAX_FILE_BYTES {
            sending.take(piece).await;
        }
    }
    Ok(Received { filename, size })
}

/// What the file is called: without folders, and without characters that nobody can see.
fn filename(disposition: Option<&ContentDisposition>) -> String {
    let extended = disposition.and_then(|disposition| disposition.get_filename_ext());
    let extended = extended.map(|extended| String::from_utf8_lossy(&extended.value).into_owned());
    let plain = || disposition.and_then(|disposition| disposition.get_filename()).map(ToOwned::to_owned);
    let mut sent = extended.or_else(plain).unwrap_or_default();
    sent.retain(|c| !c.is_control());
    base_name(&sent, "file").to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn a_name_is_kept_without_folders_and_without_what_nobody_sees() {
        for (sent, kept) in [
            (r#"form-data; name="file"; filename="../notes/plan.md""#, "plan.md"),
            (r#"form-data; name="file"; filename="C:\\notes\\plan.md""#, "plan.md"),
            (r#"form-data; name="file"; filename="Größe 10.txt""#, "Größe 10.txt"),
            (r#"form-data; name="file"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%00%0A.txt"#, "Größe.txt"),
            (r#"form-data; name="file"; filename="""#, "file"),
            (r#"form-data; name="file""#, "file"),
        ] {
            let value = HeaderValue::from_bytes(sent.as_bytes()).unwrap();
            assert_eq!(filename(ContentDisposition::from_raw(&value).ok().as_ref()), kept, "{sent}");
        }
    }
}
