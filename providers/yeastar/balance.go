package yeastar

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const (
	tokenPath   = "/auth/openapi/v1/oauth/token"
	balancePath = "/user/openapi/user/v1/client/account_balance"
	// userAgent is the example in the documentation, which requires the header. Of
	// other values nothing is known; `headers` of an account may set one.
	userAgent = "OpenAPI"
	// tokenLife is the age at which a token is renewed whose answer states no life:
	// shortly before the 30 minutes of
	// https://help.yeastar.com/en/pp-ptr/developer-guide/authorization-rules.html.
	tokenLife = 28 * time.Minute
)

// balance reads the balance of the owner of the credentials:
// https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html
type balance struct {
	settings settings
	http     providers.HTTP
	tokens   *kit.TokenSource
}

func newBalance(api providers.HTTP, s settings) *balance {
	b := &balance{settings: s, http: api}
	b.tokens = kit.NewTokenSource(kit.TokenOptions{
		HTTP:        api,
		Secrets:     []*secret.Value{s.ClientSecret},
		Login:       b.login,
		DefaultLife: tokenLife,
		// The documented form, whatever the tokenHead in the answer is.
		Header: func(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} },
	})
	return b
}

// Describe implements [providers.Source]. The key has the currency because stored
// values have it too.
func (b *balance) Describe() providers.Description {
	return providers.Description{
		Key:      "balance-" + b.settings.Currency,
		Kind:     providers.KindBalance,
		Interval: b.settings.Balance.Interval(),
		Requests: 1,
	}
}

// Fetch implements [providers.Source].
func (b *balance) Fetch(ctx context.Context) (providers.Reading, error) {
	var amount float64
	err := b.tokens.Do(ctx, providers.Call{
		Path:   balancePath,
		Header: http.Header{"User-Agent": {userAgent}},
		Parse: func(a providers.Answer) (err error) {
			amount, err = parseBalance(a)
			return err
		},
	})
	if err != nil {
		return providers.Reading{}, err
	}
	return providers.Reading{Balances: []providers.Balance{{Amount: amount, Currency: b.settings.Currency}}}, nil
}

// login requests a token, see [kit.TokenOptions]:
// https://help.yeastar.com/en/pp-ptr/developer-guide/request-access-token.html
// https://help.yeastar.com/en/pp-ptr/developer-guide/refresh-access-token.html
func (b *balance) login(ctx context.Context, refresh string) (token kit.Token, err error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	if refresh == "" {
		clientSecret, err := b.settings.ClientSecret.Get()
		if err != nil {
			return kit.Token{}, providers.Errorf(providers.ReasonAuth, "client_secret: %w", err)
		}
		form = url.Values{"grant_type": {"pp_credentials"}, "client_id": {b.settings.ClientID}, "client_secret": {clientSecret}}
	}
	err = b.http.Do(ctx, providers.Call{
		Method:    http.MethodPost,
		Path:      tokenPath,
		Header:    http.Header{"User-Agent": {userAgent}, "Content-Type": {"application/x-www-form-urlencoded"}},
		Body:      []byte(form.Encode()),
		Login:     true,
		Renewable: func() bool { return refresh != "" },
		Parse: func(a providers.Answer) (err error) {
			token, err = parseToken(a)
			return err
		},
	})
	return token, err
}

// parseBalance returns the balance in the account's currency. A missing amount is
// an error: as 0 it would page the operator.
func parseBalance(a providers.Answer) (float64, error) {
	var result struct {
		AccountBalance kit.QuotedNumber `json:"accountBalance"`
	}
	if err := parse(a, &result); err != nil {
		return 0, err
	}
	if !result.AccountBalance.OK {
		return 0, errors.New(`"accountBalance" is missing or not a number`)
	}
	return result.AccountBalance.Value, nil
}

// parseToken returns the issued token, which may be empty. Its life may be shorter
// than documented if the provider has issued the same token before.
func parseToken(a providers.Answer) (kit.Token, error) {
	var result struct {
		Token        kit.Text         `json:"token"`
		RefreshToken kit.Text         `json:"refreshToken"`
		ExpiresIn    kit.QuotedNumber `json:"expiresIn"` // seconds, documented as a string
	}
	err := parse(a, &result)
	return kit.Token{Access: result.Token.Value, Refresh: result.RefreshToken.Value, ExpiresIn: result.ExpiresIn.Value}, err
}
