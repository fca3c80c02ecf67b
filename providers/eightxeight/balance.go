package eightxeight

import (
	"context"
	"io"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

// postpaidInterval is how often an account without a balance is asked whether it
// has got one.
const postpaidInterval = time.Hour

// balanceSource reads the balance of a prepaid account:
// https://developer.8x8.com/connect/reference/get-account-balance
type balanceSource struct {
	account  *account
	interval time.Duration
}

// Key implements [providers.Source].
func (s *balanceSource) Key() string { return "balance" }

// Kind implements [providers.Source].
func (s *balanceSource) Kind() providers.Kind { return providers.KindBalance }

// Interval implements [providers.Source].
func (s *balanceSource) Interval() time.Duration { return s.interval }

// Requests implements [providers.Source].
func (s *balanceSource) Requests() int { return 1 }

// Fetch returns the balance. That an account is not in prepaid mode is a good
// answer too: a Reading without a balance.
func (s *balanceSource) Fetch(ctx context.Context) (providers.Reading, error) {
	call := s.account.call("balance")
	reading := providers.Reading{Billing: providers.BillingPrepaid}
	call.Check = func(a providers.Answer) *providers.Error {
		if isPostpaid(a) {
			reading = providers.Reading{Billing: providers.BillingPostpaid, AskAfter: postpaidInterval}
			return nil
		}
		return check(a)
	}
	call.Decode = func(body io.Reader) error {
		if reading.Billing == providers.BillingPostpaid {
			return nil
		}
		balance, err := decodeBalance(body)
		reading.Balance = balance
		return err
	}
	if err := s.account.http.Do(ctx, call); err != nil {
		return providers.Reading{}, err
	}
	return reading, nil
}
