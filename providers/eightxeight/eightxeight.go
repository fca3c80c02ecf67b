// Package eightxeight reads the balance and the SMS price list of an account of
// the 8x8 SMS API:
//
//	request (balance.go, prices.go) → body (decode.go) → wire structs (wire.go) → domain
//
// The documentation contradicts itself in places, so the package accepts every
// form that it shows: https://developer.8x8.com/connect/reference/get-price-list
package eightxeight

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
)

// Provider is the 8x8 SMS API. Its base URL is that of the region Asia Pacific;
// an account of another region has to set its own, see
// https://developer.8x8.com/connect/docs/platform-deployment-regions.
var Provider = providers.Provider{
	Name:      "8x8",
	BaseURL:   "https://sms.8x8.com",
	Regions:   []string{"sms.8x8.com", "sms.us.8x8.com", "sms.8x8.uk", "sms.8x8.id"},
	RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 5},
	Configure: configure,
}

// client sends the requests of one account.
type client struct {
	accountID string
	key       *secret.Value
	http      providers.HTTP
}

// call returns a GET of an endpoint of the account.
func (c *client) call(endpoint string) providers.Call {
	return providers.Call{
		Path:      "/api/v1/accounts/" + url.PathEscape(c.accountID) + "/" + endpoint,
		Authorize: c.authorize,
	}
}

// authorize reads the key for each request, because its file may change.
func (c *client) authorize() (http.Header, error) {
	key, err := c.key.Get()
	if err != nil {
		return nil, providers.Errorf(providers.ReasonAuth, "api_key: %w", err)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, providers.Errorf(providers.ReasonAuth, "api_key contains a line break or another control character; it must be one line")
	}
	return http.Header{"Authorization": {"Bearer " + key}}, nil
}
