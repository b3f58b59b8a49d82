"""The contract as a Python service meets it: stubs generated from the proto, the four calls, rich errors, health, reflection.

Reads the address of the service from its first argument, an email and a password from its standard input. Ends with 0 if all is
as the contract says; else says what was not.
"""

import sys
import tempfile
from pathlib import Path

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[3] / "proto"
# Where the tool keeps the types of Google's that every proto may import.
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"


def generate_stubs(directory):
    arguments = ["protoc", f"-I{PROTO}", f"-I{WELL_KNOWN}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    assert protoc.main([*arguments, "auth/v1/auth.proto"]) == 0, "the proto does not compile"
    sys.path.insert(0, directory)


def failure_of(call):
    """The code of a call that has to fail, and its rich details by type."""
    try:
        answer = call()
    except grpc.RpcError as error:
        details = {}
        status = rpc_status.from_call(error)
        assert status is not None, f"{error.code()}: no rich status"
        for detail in status.details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                if detail.Is(kind.DESCRIPTOR):
                    details[kind] = kind()
                    detail.Unpack(details[kind])
        return error.code(), details
    raise AssertionError(f"succeeded: {answer}")


def check_generated_stubs(channel, email, password):
    from auth.v1 import auth_pb2, auth_pb2_grpc

    auth = auth_pb2_grpc.AuthServiceStub(channel)
    credential = auth_pb2.PasswordCredential(email=email, password=password)
    created = auth.CreateSession(auth_pb2.CreateSessionRequest(password=credential), timeout=10)
    assert created.session_token.startswith("ses_") and len(created.session_token) == 47
    assert created.user.email == email

    token = created.session_token
    whose = auth.UserIdForSession(auth_pb2.UserIdForSessionRequest(session_token=token), timeout=10)
    assert (whose.user_id, whose.session_id) == (created.user.id, created.session.id)
    assert whose.auth_method == auth_pb2.AUTH_METHOD_PASSWORD

    current = auth.CurrentUser(auth_pb2.CurrentUserRequest(session_token=token), timeout=10)
    assert current.user == created.user and current.session.id == created.session.id

    destroyed = auth.DestroySession(auth_pb2.DestroySessionRequest(session_token=token), timeout=10)
    assert destroyed.existed
    code, details = failure_of(lambda: auth.UserIdForSession(auth_pb2.UserIdForSessionRequest(session_token=token), timeout=10))
    info = details[error_details_pb2.ErrorInfo]
    assert (code, info.reason, info.domain) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_SESSION", "auth.v1")

    credential.password = "not the password at all"
    code, details = failure_of(lambda: auth.CreateSession(auth_pb2.CreateSessionRequest(password=credential), timeout=10))
    info = details[error_details_pb2.ErrorInfo]
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_CREDENTIALS")

    code, details = failure_of(lambda: auth.CreateSession(auth_pb2.CreateSessionRequest(user_id="nobody"), timeout=10))
    fields = [violation.field for violation in details[error_details_pb2.BadRequest].field_violations]
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["user_id"])


def check_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "auth.v1.AuthService", "auth.v1.UserService"):
        status = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
        assert status == health_pb2.HealthCheckResponse.SERVING, f"{service!r} is {status}"


def check_reflection(channel, email, password):
    """A whole session with nothing but what the service says about itself."""
    described = ProtoReflectionDescriptorDatabase(channel)
    services = set(described.get_services())
    assert {"auth.v1.AuthService", "auth.v1.UserService", "grpc.health.v1.Health"} <= services, services
    service = descriptor_pool.DescriptorPool(described).FindServiceByName("auth.v1.AuthService")

    def call(method, **fields):
        method = service.methods_by_name[method]
        request, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        invoke = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return invoke(json_format.ParseDict(fields, request()), timeout=10)

    created = call("CreateSession", password={"email": email, "password": password})
    token = created.session_token
    assert call("UserIdForSession", session_token=token).user_id == created.user.id
    assert call("CurrentUser", session_token=token).user.email == email
    assert call("DestroySession", session_token=token).existed
    assert not call("DestroySession", session_token=token).existed


def main():
    email, password = sys.stdin.read().splitlines()
    with tempfile.TemporaryDirectory() as directory, grpc.insecure_channel(sys.argv[1]) as channel:
        generate_stubs(directory)
        check_generated_stubs(channel, email, password)
        check_health(channel)
        check_reflection(channel, email, password)


main()
