//! `/api/v1/status` and `/api/v1/stats`: whether the service serves, and how much it holds.

use crate::{
    gateway::{Gateway, problem::Problem, request_context::RequestContext},
    pb,
};
use axum::{Extension, Json, extract::State};
use http::HeaderMap;
use serde_json::{Value, json};

/// `GET …/status`: 503 while the service cannot serve.
pub(in crate::gateway) async fn status(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
) -> Result<Json<Value>, Problem> {
    gateway.upstream.check_health(&context).await?;
    Ok(Json(json!({ "status": "OK" })))
}

/// `GET …/stats`: counts, for administrators.
pub(in crate::gateway) async fn stats(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    gateway.identify_admin(&context, &headers).await?;
    let stats = gateway
        .upstream
        .get_stats(&context, pb::GetStatsRequest {})
        .await?;
    Ok(Json(
        json!({ "users": stats.user_count, "sessions": stats.session_count }),
    ))
}
