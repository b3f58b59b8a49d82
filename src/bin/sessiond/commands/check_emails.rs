//! `sessiond users check-emails`: the stored addresses that are not what a user of today would be stored under.

use super::{
    output::{Output, instant},
    refusal,
    users::{Client, all},
};
use crate::Failure;
use serde_json::{Value, json};
use sessiond::{
    domain::{Email, EmailKey},
    pb::{GetUserRequest, UpdateUserRequest, User, get_user_request},
};
use std::collections::HashMap;
use tonic::Code;

/// What is to be said of a user's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    /// It is another user's address in another spelling. Each of them is found by their own only.
    Clash,
    /// It would be refused today. Its user goes on logging in with it.
    Refused,
    /// It is stored in a former form, so that its user is found by one spelling of it only.
    FormerForm,
}

impl Finding {
    fn name(self) -> &'static str {
        match self {
            Self::Clash => "clash",
            Self::Refused => "refused",
            Self::FormerForm => "former form",
        }
    }
}

/// Reports, and changes nothing unless `is_applied`; then it brings those up to date that are in a former form and clash with nobody.
pub(super) async fn run(client: &mut Client, is_applied: bool, output: Output) -> Result<(), Failure> {
    let users = all(client).await?;
    let emails: Vec<Option<Email>> = users
        .iter()
        .map(|user| Email::new("email", &user.email).ok())
        .collect();
    let mut owners: HashMap<&EmailKey, usize> = HashMap::new();
    for email in emails.iter().flatten() {
        *owners.entry(email.key()).or_default() += 1;
    }
    let mut found = Vec::new();
    for (user, email) in users.iter().zip(&emails) {
        let Some(email) = email else {
            found.push((Finding::Refused, user.email.as_str(), user));
            continue;
        };
        if owners.get(email.key()).is_some_and(|owners| *owners > 1) {
            found.push((Finding::Clash, email.key().as_str(), user));
        } else if !is_current(client, email).await? {
            found.push((Finding::FormerForm, email.key().as_str(), user));
        }
    }
    // Those that clash stand together, the oldest first.
    found.sort_by(|one, other| (one.0, one.1, &one.2.id).cmp(&(other.0, other.1, &other.2.id)));
    if found.is_empty() {
        return output.sentence(
            "Every address is as it should be",
            &json!({ "checked": users.len() }),
        );
    }
    let rows: Vec<_> = found
        .iter()
        .map(|(finding, _, user)| (as_cells(*finding, user), as_json(*finding, user)))
        .collect();
    output.rows(["FINDING", "ID", "EMAIL", "CREATED"], &rows)?;
    if is_applied {
        let former = found
            .iter()
            .filter(|(finding, ..)| *finding == Finding::FormerForm);
        let mut updated = 0;
        for (.., user) in former {
            bring_up_to_date(client, user).await?;
            updated += 1;
        }
        let sentence = format!("{updated} brought up to date");
        output.sentence(&sentence, &json!({ "updated": updated }))?;
    }
    Ok(())
}

/// Whether the user is stored under the address's canonical form. Only an address that a former version stored in another form
/// needs to be asked for.
async fn is_current(client: &mut Client, email: &Email) -> Result<bool, Failure> {
    if email.lookup().keys().len() == 1 {
        return Ok(true);
    }
    let key = get_user_request::Key::Email(email.key().as_str().to_owned());
    match client.get_user(GetUserRequest { key: Some(key) }).await {
        Ok(_) => Ok(true),
        Err(status) if status.code() == Code::NotFound => Ok(false),
        Err(status) => Err(refusal(&status)),
    }
}

/// The same address, written anew: by its text alone it is no change, but by its form it is.
async fn bring_up_to_date(client: &mut Client, user: &User) -> Result<(), Failure> {
    let request = UpdateUserRequest {
        user: Some(User {
            id: user.id.clone(),
            etag: user.etag.clone(),
            email: user.email.clone(),
            ..User::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["email".to_owned()],
        }),
    };
    client
        .update_user(request)
        .await
        .map_err(|status| refusal(&status))?;
    Ok(())
}

fn as_cells(finding: Finding, user: &User) -> [String; 4] {
    [
        finding.name().to_owned(),
        user.id.clone(),
        user.email.clone(),
        instant(user.created_at.as_ref()),
    ]
}

fn as_json(finding: Finding, user: &User) -> Value {
    json!({
        "finding": finding.name(),
        "id": user.id,
        "email": user.email,
        "created_at": instant(user.created_at.as_ref()),
    })
}
