package eightxeight

import (
	"context"
	"errors"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// postpaidInterval is how often an account without a balance is asked whether it
// has become prepaid.
const postpaidInterval = time.Hour

// balanceSource reads the balance of a prepaid account:
// https://developer.8x8.com/connect/reference/get-account-balance
type balanceSource struct {
	client   *client
	interval time.Duration
}

// Describe implements [providers.Source].
func (s *balanceSource) Describe() providers.Description {
	return providers.Description{Key: "balance", Kind: providers.KindBalance, Interval: s.interval, Requests: 1}
}

// Fetch returns the balance. An account that is not in prepaid mode is no failure:
// its Reading has no balance.
func (s *balanceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	var reading providers.Reading
	call := s.client.call("balance")
	call.Parse = func(a providers.Answer) (err error) {
		reading, err = parseBalance(a)
		return err
	}
	if err := s.client.http.Do(ctx, call); err != nil {
		return providers.Reading{}, err
	}
	return reading, nil
}

// parseBalance reads an answer of any status. Balance and currency must both be
// there: a 0 for a missing amount would page the operator.
func parseBalance(a providers.Answer) (providers.Reading, error) {
	var body balanceBody
	invalid := kit.Unmarshal(a.Body, &body)
	switch e := readError(a); {
	case !a.OK(), !body.Balance.Present && e.documented():
		if e.isPostpaid(a) {
			return providers.Reading{Billing: providers.BillingPostpaid, AskAfter: postpaidInterval}, nil
		}
		return providers.Reading{}, e.refusal(a)
	case kit.Whole(a.Status) != nil:
		return providers.Reading{}, kit.Whole(a.Status)
	case invalid != nil:
		return providers.Reading{}, invalid
	case !body.Balance.OK:
		return providers.Reading{}, errors.New(`"balance" is missing or is no number`)
	}
	currency, ok := kit.Currency(body.Currency.Value)
	if !ok {
		return providers.Reading{}, errors.New(`"currency" is missing or is not three letters`)
	}
	return providers.Reading{
		Billing:  providers.BillingPrepaid,
		Balances: []providers.Balance{{Amount: body.Balance.Value, Currency: currency}},
	}, nil
}
