package recipe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/balance-exporter/balance_exporter/providers"
)

const (
	maxWallets = 100
	// postpaidInterval is how often an account without a balance is asked.
	postpaidInterval = time.Hour
)

// balanceSource reads the balances of an account.
type balanceSource struct {
	*client
	key      string
	interval time.Duration
}

// Describe implements [providers.Source].
func (s *balanceSource) Describe() providers.Description {
	return providers.Description{Key: s.key, Kind: providers.KindBalance, Interval: s.interval, Requests: 1}
}

// Fetch implements [providers.Source].
func (s *balanceSource) Fetch(ctx context.Context) (reading providers.Reading, err error) {
	err = s.send(ctx, &s.Balance.Step, nil, false, func(a providers.Answer) (err error) {
		reading, err = s.parseBalance(a)
		return err
	})
	return reading, err
}

// parseBalance returns the balances in an answer. An answer without any is that of an
// account that has none: it is postpaid.
func (a *account) parseBalance(answer providers.Answer) (providers.Reading, error) {
	b := a.Balance
	body, err := b.Step.decode(a.recipe, "balance", answer)
	if err != nil {
		return providers.Reading{}, err
	}
	outputs, err := b.value.outputs(body.root, len(answer.Body), maxWallets)
	if err != nil {
		return providers.Reading{}, body.fault("balance.value", err.Error())
	}
	if len(outputs) == 0 {
		return providers.Reading{Billing: providers.BillingPostpaid, AskAfter: postpaidInterval}, nil
	}
	var expires time.Time
	if b.expires != nil {
		output, err := body.one("balance.expires", b.expires)
		if err == nil {
			if expires, err = moment(output, b.ExpiresLayout); err != nil {
				err = body.fault("balance.expires", err.Error())
			}
		}
		if err != nil {
			return providers.Reading{}, err
		}
	}
	reading := providers.Reading{Billing: providers.BillingPrepaid}
	seen := map[[2]string]bool{}
	for _, output := range outputs {
		balance, err := a.newBalance(output)
		if id := [2]string{balance.Wallet, balance.Currency}; err == nil && seen[id] {
			err = errTwice
		} else {
			seen[id] = true
		}
		if err != nil {
			return providers.Reading{}, body.fault("balance.value", err.Error())
		}
		if balance.Expires.IsZero() {
			balance.Expires = expires
		}
		reading.Balances = append(reading.Balances, balance)
	}
	return reading, nil
}

var errTwice = errors.New("two balances have the same wallet and currency")

// newBalance returns the balance that an output of the expression describes.
func (a *account) newBalance(output any) (balance providers.Balance, err error) {
	object, ok := output.(map[string]any)
	if !ok {
		return balance, fmt.Errorf("the output is %s, not an object such as {amount, currency}", kindOf(output))
	}
	for key := range object {
		switch key {
		case "amount", "currency", "wallet", "expires":
		default:
			return balance, fmt.Errorf("the key %s is not known: a balance has amount, currency, wallet and expires", key)
		}
	}
	if balance.Amount, err = amount(object["amount"], a.Balance.Amounts.divisor()); err != nil {
		return balance, fmt.Errorf("amount %w", err)
	}
	if balance.Currency, err = a.unit(object["currency"], a.Balance.Amounts.Currency); err != nil {
		return balance, err
	}
	if balance.Wallet, ok = label(object["wallet"]); !ok {
		return balance, fmt.Errorf("wallet is %s, not a text", kindOf(object["wallet"]))
	}
	if balance.Expires, err = moment(object["expires"], a.Balance.ExpiresLayout); err != nil {
		return balance, fmt.Errorf("expires %w", err)
	}
	return balance, nil
}

// unit returns the currency of an output, or that of the recipe if the output has none.
func (a *account) unit(output any, fixed string) (string, error) {
	text, ok := label(output)
	switch {
	case !ok:
		return "", fmt.Errorf("currency is %s, not a text", kindOf(output))
	case output != nil && normalCurrency(text) != "":
		return normalCurrency(text), nil
	case fixed == "" || output != nil:
		return "", errors.New("currency is missing; name it in the expression, or under currency if the answer does not say it")
	}
	return a.currency(fixed), nil
}

// label returns a text or a number as the value of a label; empty for null.
func label(v any) (string, bool) {
	if v == nil {
		return "", true
	}
	if _, isBool := v.(bool); isBool {
		return "", false
	}
	text, ok := scalarText(v)
	return providers.Label(text), ok
}
