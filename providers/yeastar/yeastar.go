// Package yeastar reads the balance of an account of the Yeastar Partner Portal:
//
//	token (token.go) → request (balance.go) → body (wire.go, errors.go) → domain
//
// The documentation is thin, so an answer is judged by its body first and by its
// HTTP status second, and every form that can be expected is accepted:
// https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html
package yeastar

import (
	"context"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Provider is the Yeastar Partner Portal API. No rate limit of it is documented.
// For its base URL see
// https://help.yeastar.com/en/pp-ptr/developer-guide/request-structure.html.
var Provider = providers.Provider{
	Name:      "yeastar",
	BaseURL:   "https://openapi.partner.yeastar.com",
	RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 2},
	Configure: configure,
}

// userAgent is the value that the documentation shows for the header User-Agent,
// which it requires. No other value is known to be accepted.
const userAgent = "OpenAPI"

// account is an opened account.
type account struct {
	sources []providers.Source
}

// Sources implements [providers.Account].
func (a *account) Sources() []providers.Source { return a.sources }

// send sends a call for what, and says so in its error.
func send(ctx context.Context, http providers.HTTP, what string, call providers.Call) error {
	call.Header.Set("User-Agent", userAgent)
	call.Check = check
	err := http.Do(ctx, call)
	if err == nil {
		return nil
	}
	e := *providers.AsError(err)
	e.Message = what + ": " + e.Message
	return &e
}
