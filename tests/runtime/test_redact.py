from brats_jax.runtime.redact import first_line, without_secrets


def test_secrets_are_left_out_of_messages(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123abcd")
    text = "401 for 0123abcd at https://me:word@host/api"
    assert without_secrets(text) == "401 for *** at https://host/api"


def test_an_error_is_one_line_without_secrets():
    error = ValueError("no access to s3://id:word@bucket\n  trace")
    assert first_line(error) == "ValueError: no access to s3://bucket"
    assert first_line(KeyError()) == "KeyError: "
