package kit

import (
	"context"
	"errors"
	"net/http"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

// StaticToken sends the requests of an account that has its token from the
// configuration.
type StaticToken struct {
	HTTP   providers.HTTP
	Secret *secret.Value
	Header func(token string) http.Header
}

// Do sends call with the token, and sets Authorize. A refused token whose file has
// changed meanwhile is replaced once; the change ends the block of the account.
func (s StaticToken) Do(ctx context.Context, call providers.Call) error {
	sent := ""
	call.Authorize = func() (http.Header, error) {
		token, err := s.Secret.Get()
		if err == nil && !isHeaderValue(token) {
			err = errors.New("holds a line break or another character that cannot be sent in a header")
		}
		if err != nil {
			return nil, providers.Errorf(providers.ReasonAuth, "token: %w", err)
		}
		sent = token
		return s.Header(token), nil
	}
	err := s.HTTP.Do(ctx, call)
	if reason := reasonOf(err); sent == "" || reason != providers.ReasonAuth && reason != providers.ReasonForbidden {
		return err
	}
	if now, getErr := s.Secret.Get(); getErr != nil || now == sent {
		return err
	}
	return s.HTTP.Do(ctx, call)
}
