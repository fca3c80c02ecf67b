package yeastar

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const balancePath = "/user/openapi/user/v1/client/account_balance"

// maxTokens is how many tokens one Fetch tries: the one at hand, a refreshed one and
// one of a login.
const maxTokens = 3

// balanceSource reads the balance of the owner of the credentials:
// https://help.yeastar.com/en/pp-ptr/developer-guide/query-account-balance.html
type balanceSource struct {
	http     providers.HTTP
	tokens   *tokens
	currency string
	interval time.Duration
}

// Key implements [providers.Source]. It has the currency because kept values have
// it too.
func (s *balanceSource) Key() string { return "balance-" + s.currency }

// Kind implements [providers.Source].
func (s *balanceSource) Kind() providers.Kind { return providers.KindBalance }

// Interval implements [providers.Source].
func (s *balanceSource) Interval() time.Duration { return s.interval }

// Requests implements [providers.Source].
func (s *balanceSource) Requests() int { return 1 }

// Fetch returns the balance. A token that is refused is replaced, and never more
// often than there are ways to get one.
func (s *balanceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	for tries := 1; ; tries++ {
		t, err := s.tokens.get(ctx)
		if err != nil {
			return providers.Reading{}, err
		}
		amount, err := s.read(ctx, t)
		if err != nil && providers.AsError(err).Reason == providers.ReasonAuth {
			if s.tokens.refused(t) && tries < maxTokens {
				continue
			}
			return providers.Reading{}, err
		}
		s.tokens.accepted(t)
		if err != nil {
			return providers.Reading{}, err
		}
		return providers.Reading{Balance: &providers.Balance{Amount: amount, Currency: s.currency}}, nil
	}
}

// read sends the request with t. The documented form of the header does not depend
// on the tokenHead that came with the token.
func (s *balanceSource) read(ctx context.Context, t *token) (amount float64, err error) {
	err = send(ctx, s.http, "reading the balance", providers.Call{
		Path:   balancePath,
		Header: http.Header{"Authorization": {"Bearer " + t.access}},
		Decode: func(body io.Reader) error {
			var err error
			amount, err = decodeBalance(body)
			return err
		},
	})
	return amount, err
}
