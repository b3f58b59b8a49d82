//! `/api/v1/users`: registration, and the administration of users.

use crate::{
    contract::user_field,
    domain::UserId,
    gateway::{
        Gateway,
        body::JsonFields,
        json_view,
        page::PageQuery,
        problem::{Problem, ProblemKind, Violation},
        request_context::RequestContext,
        single_header::{SingleHeader, single_header},
    },
    pb,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

/// `POST`: a new user. Roles are an administrator's to give, and so is everything where registration is off.
pub(in crate::gateway) async fn register(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !gateway.config.registration {
        gateway.must_be_admin_to_register(&context, &headers).await?;
    }
    let mut fields = JsonFields::read(&headers, body).await?;
    let request = pb::CreateUserRequest {
        email: fields.text("email"),
        credential: Some(pb::create_user_request::Credential::Password(
            fields.text("password"),
        )),
        first_name: fields.optional_text("first_name").unwrap_or_default(),
        last_name: fields.optional_text("last_name").unwrap_or_default(),
        roles: fields.optional_texts("roles").unwrap_or_default(),
    };
    fields.finish()?;
    if !request.roles.is_empty() && gateway.config.registration {
        gateway.identify_admin(&context, &headers).await?;
    }
    let created = gateway.upstream.create_user(&context, request).await?;
    let user = created.user.ok_or(ProblemKind::ServiceFailed)?;
    let mut response = user_response(&user);
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/users/{}", user.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// `GET`: all users, page by page.
pub(in crate::gateway) async fn list(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    gateway.identify_admin(&context, &headers).await?;
    let page = PageQuery::of_query(query.as_deref())?;
    let request = pb::ListUsersRequest {
        page_size: page.size,
        page_token: page.token,
    };
    let found = gateway.upstream.list_users(&context, request).await?;
    let users: Vec<_> = found.users.iter().map(json_view::user).collect();
    Ok(Json(
        json!({ "users": users, "next_page_token": found.next_page_token }),
    ))
}

/// `GET …/{id}`: one user.
pub(in crate::gateway) async fn show(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    gateway.identify_admin(&context, &headers).await?;
    let request = pb::GetUserRequest {
        key: Some(pb::get_user_request::Key::UserId(user_id(id)?)),
    };
    let found = gateway.upstream.get_user(&context, request).await?;
    Ok(user_response(&found.user.ok_or(ProblemKind::ServiceFailed)?))
}

/// `PUT …/{id}`: writes the members that are given. What `GET` shows may be sent back whole: members that nobody can write are
/// passed over, and `etag` refuses the change if someone else was faster.
pub(in crate::gateway) async fn change(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    gateway.identify_admin(&context, &headers).await?;
    let id = user_id(id)?;
    let mut fields = JsonFields::read(&headers, body).await?;
    let change = UserChange {
        email: fields.optional_text("email"),
        first_name: fields.optional_text("first_name"),
        last_name: fields.optional_text("last_name"),
        roles: fields.optional_texts("roles"),
    };
    let etag = fields.optional_text("etag").unwrap_or_default();
    fields.ignore(&["id", "created_at", "updated_at", "disabled_at"]);
    fields.finish()?;
    changed_user(&gateway, &context, &headers, id, change, etag).await
}

/// `DELETE …/{id}`: the user and all their sessions.
pub(in crate::gateway) async fn delete(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    gateway.identify_admin(&context, &headers).await?;
    let request = pb::DeleteUserRequest {
        user_id: user_id(id)?,
    };
    gateway.upstream.delete_user(&context, request).await?;
    Ok(Json(json!({})))
}

/// What a change writes; `None` leaves a member as it is.
pub(super) struct UserChange {
    pub(super) email: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) roles: Option<Vec<String>>,
}

/// Changes the user, unless `If-Match` or else `etag`, if not empty, says that they have changed since they were read.
pub(super) async fn changed_user(
    gateway: &Gateway,
    context: &RequestContext,
    headers: &HeaderMap,
    id: String,
    change: UserChange,
    etag: String,
) -> Result<Response, Problem> {
    let paths = [
        (user_field::EMAIL, change.email.is_some()),
        (user_field::FIRST_NAME, change.first_name.is_some()),
        (user_field::LAST_NAME, change.last_name.is_some()),
        (user_field::ROLES, change.roles.is_some()),
    ];
    let paths: Vec<_> = paths
        .into_iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(path, _)| path.to_owned())
        .collect();
    if paths.is_empty() {
        let nothing = Violation::new("body", "must have a member to change");
        return Err(Problem::invalid_fields(vec![nothing]));
    }
    let request = pb::UpdateUserRequest {
        user: Some(pb::User {
            id,
            email: change.email.unwrap_or_default(),
            first_name: change.first_name.unwrap_or_default(),
            last_name: change.last_name.unwrap_or_default(),
            roles: change.roles.unwrap_or_default(),
            etag: if_match(headers)?.unwrap_or(etag),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let changed = gateway.upstream.update_user(context, request).await?;
    Ok(user_response(&changed.user.ok_or(ProblemKind::ServiceFailed)?))
}

/// The user, with their etag where HTTP looks for it.
pub(super) fn user_response(user: &pb::User) -> Response {
    let mut response = Json(json_view::user(user)).into_response();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", user.etag)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The etag in `If-Match` (RFC 9110 §13.1.1); `None` if there is none, or `*`.
fn if_match(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    match single_header(headers, &header::IF_MATCH) {
        SingleHeader::Absent | SingleHeader::Once("*") => Ok(None),
        SingleHeader::Once(text) => {
            let etag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            match etag {
                Some(etag) if !etag.is_empty() && !etag.contains('"') => Ok(Some(etag.to_owned())),
                // Weak or several: neither can be the user's.
                Some(_) | None => Err(ProblemKind::Changed.into()),
            }
        }
        SingleHeader::Invalid => Err(ProblemKind::Changed.into()),
    }
}

/// # Errors
/// [`ProblemKind::NotFound`]: what cannot be a user's id names no user.
fn user_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(id) = id.map_err(|_| ProblemKind::NotFound)?;
    let id: UserId = id.parse().map_err(|_| ProblemKind::NotFound)?;
    Ok(id.to_string())
}

impl Gateway {
    /// # Errors
    /// [`ProblemKind::RegistrationClosed`] for everyone but administrators; a failure of the service stays that failure.
    async fn must_be_admin_to_register(
        &self,
        context: &RequestContext,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let closed = |problem: Problem| match matches!(
            problem.kind(),
            ProblemKind::NoSession | ProblemKind::Forbidden
        ) {
            true => ProblemKind::RegistrationClosed.into(),
            false => problem,
        };
        self.identify_admin(context, headers)
            .await
            .map(drop)
            .map_err(closed)
    }
}
