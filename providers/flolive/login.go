package flolive

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const loginPath = "/api/v2/auth/token"

// authenticator sends a request with the token of the account. The page of the
// documentation about authentication is not public, and the portal is moving to
// another method, so there are two: a [kit.TokenSource] with a login and a
// [kit.StaticToken].
type authenticator interface {
	Do(ctx context.Context, call providers.Call) error
}

// header returns the header line that carries a token.
func (s authSettings) header(token string) http.Header {
	return http.Header{http.CanonicalHeaderKey(s.Header): {s.Prefix + token}}
}

// login requests tokens for a user and a password.
type login struct {
	http     providers.HTTP
	username string
	password *secret.Value
}

// tokens returns the source of the account's tokens. HTTP 403 may be the end of a
// token, or about a subscriber such as a suspended SIM card.
func (l login) tokens(settings authSettings) *kit.TokenSource {
	return kit.NewTokenSource(kit.TokenOptions{
		HTTP: l.http, Secrets: []*secret.Value{l.password}, Login: l.request, Header: settings.header,
		DefaultLife: time.Duration(settings.TokenLifetime), RenewForbidden: true,
	})
}

// request logs in. The request and the place of the token in the answer come from
// public code that runs against the service. There are no refresh tokens.
func (l login) request(ctx context.Context, _ string) (kit.Token, error) {
	password, err := l.password.Get()
	if err != nil {
		return kit.Token{}, providers.Errorf(providers.ReasonAuth, "password: %w", err)
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	// The mask finds a password that a gateway echoes only if it is sent unescaped.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]string{"username": l.username, "password": password}); err != nil {
		return kit.Token{}, providers.Errorf(providers.ReasonInternal, "login: %w", err)
	}
	var token kit.Token
	err = l.http.Do(ctx, providers.Call{
		Method: http.MethodPost,
		Path:   loginPath,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   body.Bytes(),
		Login:  true,
		Parse: func(a providers.Answer) (err error) {
			token.Access, err = parseLogin(a)
			return err
		},
	})
	if err != nil {
		failure := *providers.AsError(err)
		failure.Message = "login: " + failure.Message
		return kit.Token{}, &failure
	}
	return token, nil
}
