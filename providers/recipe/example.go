package recipe

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// example is an answer, and what is to be read from it.
type example struct {
	Of      string            `yaml:"of"`     // token, balance or prices; balance, else prices, if empty
	Status  int               `yaml:"status"` // 200 if 0
	Headers map[string]string `yaml:"headers"`
	Body    string            `yaml:"body"`
	// Settings are those of an account, as far as the values depend on them.
	Settings map[string]string `yaml:"settings"`
	// Country is the one that prices were asked for.
	Country string `yaml:"country"`
	// Gives are the values: empty, but not missing, for an account without a balance.
	Gives []map[string]string `yaml:"gives"`
	// Fails is the reason of the failure, and RetryAfter how long the answer asks to wait.
	Fails      providers.Reason `yaml:"fails"`
	RetryAfter model.Duration   `yaml:"retry_after"`
}

// runExamples implements [providers.Provider.Check].
func (r *recipe) runExamples() error {
	for i, e := range r.Examples {
		path := fmt.Sprintf("examples[%d]", i)
		fault := func(key, format string, args ...any) error {
			return r.section.Errorf(path+key, format+"; correct the example or the recipe", args...)
		}
		of := r.stepOf(e)
		switch {
		case of == nil:
			return r.section.Errorf(path+".of", "%q must be one of the recipe's %s", e.Of, strings.Join(r.stepNames(), ", "))
		case (e.Gives == nil) == (e.Fails == ""):
			return r.section.Errorf(path, "must have either gives or fails; write what the answer gives, or the reason of the failure")
		case e.Fails != "" && !slices.Contains(providers.Reasons(), e.Fails):
			return r.section.Errorf(path+".fails", "%q is not a reason; write one such as auth, rate_limited or bad_response", e.Fails)
		}
		got, err := of(e.answer())
		failure := providers.AsError(err)
		if failure != nil && failure.Status == 0 && !isProviderError(err) {
			failure.Reason = providers.ReasonBadResponse
		}
		want := texts(e.Gives)
		switch {
		case err != nil && e.Fails == "":
			return fault("", "fails with %s", failure)
		case err != nil && failure.Reason != e.Fails:
			return fault(".fails", "is %s, but the example fails with %s", e.Fails, failure)
		case err != nil && e.RetryAfter > 0 && failure.RetryAfter != time.Duration(e.RetryAfter):
			return fault(".retry_after", "is %s, but the answer asks to wait %s", e.RetryAfter, failure.RetryAfter)
		case err == nil && e.Fails != "":
			return fault(".fails", "is %s, but the answer gives %s", e.Fails, texts(got))
		case err == nil && !slices.Equal(texts(got), want):
			return fault(".gives", "is %s, but the answer gives %s", want, texts(got))
		}
	}
	return nil
}

// isProviderError reports whether err has a reason. Any other error of reading an answer
// is a bad response.
func isProviderError(err error) bool {
	var e *providers.Error
	return errors.As(err, &e)
}

// answer returns the answer of an example.
func (e example) answer() providers.Answer {
	a := providers.Answer{Status: cmp.Or(e.Status, http.StatusOK), Header: http.Header{}, Body: []byte(e.Body), Quote: providers.OneLine}
	for name, value := range e.Headers {
		a.Header.Set(name, value)
	}
	return a
}

func (r *recipe) stepNames() (names []string) {
	for name, has := range map[string]bool{tokenName: r.Token != nil, "balance": r.Balance != nil, "prices": r.Prices != nil} {
		if has {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// stepOf returns what reads the values of an example's answer, each as texts by key; nil
// if the recipe has no such step.
func (r *recipe) stepOf(e example) func(providers.Answer) ([]map[string]string, error) {
	name := e.Of
	if name == "" {
		name = r.stepNames()[0]
	}
	account := &account{recipe: r, settings: e.Settings}
	switch {
	case !slices.Contains(r.stepNames(), name):
		return nil
	case name == tokenName:
		return func(a providers.Answer) ([]map[string]string, error) {
			token, err := r.Token.parse(r, a)
			return []map[string]string{{"token": token.Access, "expires_in": amountText(token.ExpiresIn)}}, err
		}
	case name == "prices":
		return func(a providers.Answer) (all []map[string]string, err error) {
			set := kit.NewPriceSet(maxSeries)
			if err := account.parsePrices(a, e.Country, set); err != nil {
				return nil, err
			}
			for _, p := range set.Reading().Prices {
				all = append(all, map[string]string{
					"country": p.Country, "mcc": p.MCC, "mnc": p.MNC, "operator": p.Operator, "number_type": p.NumberType,
					"direction": string(p.Direction), "amount": amountText(p.Amount), "currency": p.Currency,
				})
			}
			return all, nil
		}
	}
	return func(a providers.Answer) (all []map[string]string, err error) {
		reading, err := account.parseBalance(a)
		for _, b := range reading.Balances {
			all = append(all, map[string]string{"amount": amountText(b.Amount), "currency": b.Currency, "wallet": b.Wallet, "expires": timeText(b.Expires)})
		}
		return all, err
	}
}

func amountText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// texts returns values as texts that are equal if the values are.
func texts(all []map[string]string) []string {
	var out []string
	for _, values := range all {
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(values)) {
			value := values[key]
			if f, err := strconv.ParseFloat(value, 64); err == nil && (key == "amount" || key == "expires_in") {
				value = amountText(f)
			}
			if value != "" && (key != "direction" || value != string(providers.Outbound)) && (key != "expires_in" || value != "0") {
				parts = append(parts, key+": "+value)
			}
		}
		out = append(out, "{"+strings.Join(parts, ", ")+"}")
	}
	return out
}
