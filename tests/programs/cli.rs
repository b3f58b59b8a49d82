//! Runs commands of sessiond as an operator does.

use crate::built::SESSIOND;
use serde_json::Value;
use sessiond::pb::{
    CreateSessionRequest, PasswordCredential, auth_service_client::AuthServiceClient,
    create_session_request::Credential,
};
use std::{path::Path, process::Output};
use testkit::process::{Running, program, run_with_input, text};
use tonic::Status;

/// Where commands are run, and the arguments that each of them gets besides its own.
pub(crate) struct Cli<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) arguments: Vec<String>,
}

impl Cli<'_> {
    pub(crate) fn run(&self, line: &str, input: &str) -> Output {
        let mut command = program(SESSIOND, self.dir);
        command.args(line.split(' ')).args(&self.arguments);
        run_with_input(command, input)
    }

    /// What a command that succeeds prints.
    pub(crate) fn succeed(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The JSON lines that a command prints.
    pub(crate) fn json(&self, line: &str) -> Vec<Value> {
        let printed = self.succeed(&format!("{line} --json"), "");
        printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Why a command fails.
    pub(crate) fn fail(&self, line: &str, input: &str) -> String {
        let output = self.run(line, input);
        assert!(!output.status.success(), "{line}\n{}", text(&output.stdout));
        text(&output.stderr)
    }
}

/// Logs `ada@example.org` in. Says which session that made.
pub(crate) async fn log_in(running: &Running, password: &str) -> Result<String, Status> {
    let url = format!("http://{}", running.grpc.unwrap());
    let mut client = AuthServiceClient::connect(url).await.unwrap();
    let credential = PasswordCredential {
        email: "ada@example.org".to_owned(),
        password: password.to_owned(),
    };
    let request = CreateSessionRequest {
        credential: Some(Credential::Password(credential)),
        ..CreateSessionRequest::default()
    };
    let answer = client.create_session(request).await?.into_inner();
    Ok(answer.session.unwrap().id)
}
