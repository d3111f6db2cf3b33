//! What a list makes of its query string, without a database.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at a broken assumption")]

use super::{
    Filter, ListParams, ListSpec, SortKind, Sortable, Values,
    cursor::{Cursor, Key, encode},
    request::{ChosenValues, ListRequest, Start},
};
use uuid::Uuid;

static SPEC: ListSpec = ListSpec {
    from: "things t",
    columns: "t.*",
    condition: None,
    id: "t.id",
    default_limit: 20,
    filters: &[
        Filter {
            name: "status",
            sql: "t.status",
            values: Values::Words(&[("processing", "running"), ("done", "done")]),
        },
        Filter { name: "owner", sql: "t.owner", values: Values::Ids },
        Filter { name: "public", sql: "t.public", values: Values::Bools },
        Filter { name: "category", sql: "t.category", values: Values::Text },
    ],
    searched: &["t.title"],
    sortable: &[
        Sortable::new("created_at", "t.created_at", SortKind::Time),
        Sortable::new("title", "t.title", SortKind::Text),
        Sortable::nullable("size", "t.size", SortKind::Integer),
        Sortable::new("rate", "t.rate", SortKind::Float),
    ],
};

fn read(query: &str) -> ListRequest {
    ListRequest::read(&SPEC, &ListParams::parse(query)).unwrap_or_else(|error| panic!("{query}: {error}"))
}

fn refused(query: &str) -> Vec<String> {
    let error = ListRequest::read(&SPEC, &ListParams::parse(query)).unwrap_err();
    error.details().iter().map(|detail| detail.field.clone()).collect()
}

fn order(query: &str) -> String {
    let order = read(query).order;
    order.iter().map(|part| format!("{}{} ", if part.descending { "-" } else { "+" }, part.by.name)).collect()
}

fn offset(query: &str) -> i64 {
    match read(query).start {
        Start::Offset(offset) => offset,
        Start::Cursor { .. } => panic!("{query} gave a cursor"),
    }
}

#[test]
fn pages_are_counted_from_one_and_an_offset_wins() {
    assert_eq!((read("").limit, offset("")), (20, 0));
    assert_eq!((read("limit=7").limit, offset("limit=7&page=3")), (7, 14));
    assert_eq!(read("page_size=9").limit, 9);
    assert_eq!(read("page_size=9&limit=8").limit, 8);
    assert_eq!(offset("page=5&offset=3"), 3);
    for beyond in ["page=9223372036854775807", "offset=9223372036854775807", "offset=99999999999999999999"] {
        assert!(offset(beyond) > 1 << 60, "{beyond}");
    }
}

#[test]
fn every_way_to_say_an_order_is_understood() {
    for (query, expected) in [
        ("", "-created_at "),
        ("sort=asc", "+created_at "),
        ("sort=desc", "-created_at "),
        ("sort=title", "+title "),
        ("sort=+title", "+title "),
        ("sort=%2Btitle,-size", "+title -size "),
        ("sort=-title,title", "-title "),
        ("sort_by=title", "+title "),
        ("sort_by=title&sort_order=desc", "-title "),
        ("sort_order=asc", "+created_at "),
        ("sort=-size&sort_by=title&sort_order=asc", "-size "),
    ] {
        assert_eq!(order(query), expected, "{query}");
    }
}

#[test]
fn a_filter_takes_several_values_and_the_words_of_clients() {
    let request = read("status=processing,done&category=a,b&category=c&public=true&owner=");
    let texts = |index: usize| match &request.filters[index].values {
        ChosenValues::Texts(texts) => texts.clone(),
        other @ (ChosenValues::Ids(_) | ChosenValues::Bools(_) | ChosenValues::Since(_) | ChosenValues::Before(_)) => {
            panic!("{other:?}")
        }
    };
    assert_eq!(request.filters.len(), 3, "an empty filter is none");
    assert_eq!(texts(0), ["running", "done"]);
    assert_eq!(texts(2), ["a", "b", "c"]);
}

#[test]
fn a_day_as_an_end_includes_that_day() {
    let request = read("created_after=2025-01-01&created_before=2025-01-31");
    assert_eq!(request.created_after.unwrap().to_rfc3339(), "2025-01-01T00:00:00+00:00");
    assert_eq!(request.created_until.unwrap().to_rfc3339(), "2025-02-01T00:00:00+00:00");
    for time in
        ["2025-01-31T10:30:00Z", "2025-01-31T12:30:00+02:00", "2025-01-31T12:30:00%2B02:00", "2025-01-31T10:30:00"]
    {
        let request = read(&format!("created_before={time}"));
        assert_eq!(request.created_until.unwrap().to_rfc3339(), "2025-01-31T10:30:00.000001+00:00", "{time}");
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let fields = refused(
        "limit=0&page=x&offset=-1&sort=-colour&status=lost&owner=me&public=maybe&created_after=yesterday\
         &created_before=2025-13-01&cursor=rubbish&search=a%00b",
    );
    for field in [
        "limit",
        "page",
        "offset",
        "sort",
        "status",
        "owner",
        "public",
        "created_after",
        "created_before",
        "cursor",
        "search",
    ] {
        assert!(fields.iter().any(|found| found == field), "{field} is missing in {fields:?}");
    }
    assert_eq!(refused("limit=101"), ["limit"]);
    assert_eq!(refused("page_size=101"), ["page_size"]);
    assert_eq!(refused("sort_by=title&sort_order=up"), ["sort_order"]);
    assert_eq!(refused("created_after=%2B262142-12-31"), ["created_after"]);
    for year in ["-99999-1-1", "-9999-01-1", "%2B99999-1-1"] {
        assert_eq!(refused(&format!("created_after={year}&created_before={year}")).len(), 2, "{year}");
    }
    assert_eq!(refused("search=1+2+3+4+5+6+7+8+9+10+11"), ["search"]);
}

#[test]
fn a_cursor_comes_back_as_it_was_and_only_with_its_own_order() {
    let sorted = read("sort=title,-size,created_at,rate");
    let texts = [Some("Ä"), None, Some("2025-01-31T10:30:00.123456Z"), Some("0.1")];
    let keys = texts.map(|text| text.map(ToOwned::to_owned)).to_vec();
    let text = encode(true, &sorted.order, keys, Uuid::from_u128(5));
    let cursor = Cursor::decode(&text, &sorted.order).unwrap();
    assert!(cursor.forward);
    assert_eq!(cursor.id, Uuid::from_u128(5));
    assert_eq!(cursor.keys[..2], [Key::Text(Some("Ä".to_owned())), Key::Integer(None)]);
    assert!(matches!(cursor.keys[2], Key::Time(Some(at)) if at.timestamp_subsec_micros() == 123_456));
    assert_eq!(cursor.keys[3], Key::Float(Some(0.1)));
    assert_eq!(Cursor::decode(&text, &read("sort=title,size,created_at,rate").order), None);
    assert_eq!(Cursor::decode(&text, &read("").order), None);
    assert_eq!(refused(&format!("cursor={text}")), ["cursor"]);
    assert_eq!(refused(&format!("sort=title,-size,created_at,rate&cursor={text}x")), ["cursor"]);
}

#[test]
fn a_cursor_wins_over_an_offset() {
    let created = vec![Some("2025-01-31T10:30:00.123456Z".to_owned())];
    let text = encode(false, &read("").order, created, Uuid::nil());
    assert!(matches!(read(&format!("offset=5&cursor={text}")).start, Start::Cursor { forward: false, .. }));
}
