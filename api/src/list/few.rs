//! Lists of a few things that are in no table, with the same parameters and in the same form.

use super::{
    ListParams, ListSpec, Page, Pagination, cursor,
    request::{ListRequest, Start},
};
use crate::error::ApiError;
use std::cmp::Ordering;
use uuid::Uuid;

/// A page of `items`, which are given oldest first. `compare` knows how two of them stand to each other in a field that
/// the spec lets clients sort by; where they are equal, and by `created_at`, their order counts.
///
/// # Errors
/// 400 with every parameter that is not right.
pub(crate) fn of_few<T>(
    spec: &'static ListSpec,
    params: &ListParams,
    items: Vec<T>,
    compare: impl Fn(&str, &T, &T) -> Ordering,
) -> Result<Page<T>, ApiError> {
    let request = ListRequest::read(spec, params)?;
    let mut items: Vec<_> = items.into_iter().enumerate().collect();
    items.sort_by(|(at, one), (other_at, other)| {
        let ties = request.order.last().is_some_and(|part| part.descending);
        let parts = request.order.iter().map(|part| {
            let order = if part.by.name == "created_at" { at.cmp(other_at) } else { compare(part.by.name, one, other) };
            (order, part.descending)
        });
        let turned = |(order, descending): (Ordering, bool)| if descending { order.reverse() } else { order };
        parts.chain([(at.cmp(other_at), ties)]).map(turned).fold(Ordering::Equal, Ordering::then)
    });
    let total = i64::try_from(items.len()).unwrap_or(i64::MAX);
    // a cursor's id is the place it stands for: these lists change only with a restart
    let limit = request.limit;
    let (offset, end) = match request.start {
        Start::Offset(offset) => (offset, offset.saturating_add(limit)),
        Start::Cursor { forward, id, .. } => {
            let place = i64::try_from(id.as_u128()).unwrap_or(i64::MAX);
            if forward { (place, place.saturating_add(limit)) } else { (place.saturating_sub(limit).max(0), place) }
        }
    };
    let (has_next, has_prev) = (end < total, offset > 0 && total > 0);
    let place = |forward: bool, place: i64, exists: bool| {
        let id = Uuid::from_u128(u128::from(place.unsigned_abs()));
        exists.then(|| cursor::encode(forward, &request.order, vec![None; request.order.len()], id))
    };
    let pagination = Pagination {
        total,
        limit,
        offset,
        page: offset / limit + 1,
        pages: (total + limit - 1) / limit,
        has_next,
        has_prev,
        next_cursor: place(true, end, has_next),
        prev_cursor: place(false, offset, has_prev),
    };
    let place = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    let data = items.into_iter().map(|(_, item)| item).skip(place(offset)).take(place(end - offset)).collect();
    Ok(Page { data, pagination })
}
