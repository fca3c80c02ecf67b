package providertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/balance-exporter/balance_exporter/internal/quota"
	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

// The toy API lists subscribers in pages of two, and answers the balances of one.

const toyKey = `Ty1+/="&<toy>%2F-canary-key`

var (
	toySubscribers = []string{"s1", "s2", "s3"}
	toyCase        = simulate.Case{
		Provider: "toy", Name: "account", Secrets: []string{toyKey}, Open: openToy, Values: 6,
		Endpoints: []simulate.Endpoint{
			{Name: "list", Path: regexp.MustCompile(`/subscribers$`)},
			{Name: "balances", Path: regexp.MustCompile(`/balances$`)},
		},
		Errors: []simulate.Error{
			{Endpoint: "list", Status: 401, Body: `{"code":"denied","message":"unknown key"}`, Reason: "auth"},
			{Endpoint: "balances", Status: 503, Body: `{"code":"down","message":"maintenance"}`, Reason: "unavailable"},
		},
	}
)

func openToy(*rand.Rand) simulate.Account {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, body any) {
		text, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		simulate.Answer{Body: text}.Write(w)
	}
	mux.HandleFunc("GET /subscribers", func(w http.ResponseWriter, r *http.Request) {
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		items := []any{}
		for _, id := range toySubscribers[min(2*page, 3):min(2*page+2, 3)] {
			items = append(items, map[string]any{"id": id})
		}
		answer(w, map[string]any{"page": page, "total": 3, "items": items})
	})
	mux.HandleFunc("GET /subscribers/{id}/balances", func(w http.ResponseWriter, r *http.Request) {
		n := float64(slices.Index(toySubscribers, r.PathValue("id")))
		answer(w, map[string]any{"subscriber": r.PathValue("id"), "balances": []any{
			map[string]any{"id": "money", "currency": "USD", "value": 12.75 + n},
			map[string]any{"id": "messages", "unit": "SMS", "value": 400 + n},
		}})
	})
	return simulate.Account{
		Config: "key: '" + toyKey + "'\nsubscribers: {refresh_interval: $interval, max_age: $max_age}",
		Hosts: map[string]http.Handler{"": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer "+toyKey {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			mux.ServeHTTP(w, r)
		})},
	}
}

// toy is a provider with faults that tests plant.
type toy struct {
	plant string
	key   *secret.Value
	part  kit.Part
	http  providers.HTTP
}

func newToy(plant string) providers.Provider {
	return providers.Provider{
		Name: "toy", BaseURL: "https://toy.example", RateLimit: quota.Limit{Requests: 1, Per: time.Second, Burst: 1},
		Configure: func(section providers.Section) (providers.Account, error) {
			s := struct {
				Key         *secret.Value `yaml:"key"`
				Subscribers kit.Part      `yaml:"subscribers"`
			}{}
			if err := section.Decode(&s); err != nil {
				return providers.Account{}, err
			}
			identity := "toy"
			switch plant {
			case "key in the identity":
				identity = toyKey
			case "key in base64":
				identity = base64.StdEncoding.EncodeToString([]byte("toy:" + toyKey))
			}
			return providers.Account{
				Parts:    []providers.Part{s.Subscribers.Domain(providers.KindSubscribers)},
				Secrets:  []*secret.Value{s.Key},
				Identity: identity,
				Open: func(env providers.Env) ([]providers.Source, error) {
					t := &toy{plant: plant, key: s.Key, part: s.Subscribers, http: env.HTTP}
					return []providers.Source{&toyList{t}}, nil
				},
			}, nil
		},
	}
}

// ask sends a request, and passes an answer that is no error to parse.
func (t *toy) ask(ctx context.Context, path, query string, parse func(body []byte) error) error {
	call := providers.Call{Path: path, Query: query}
	tries := 0
	call.Authorize = func() (http.Header, error) {
		key, err := t.key.Get()
		return http.Header{"Authorization": {"Bearer " + key}}, err
	}
	call.Parse = func(a providers.Answer) error {
		var e struct {
			Code    kit.Text `json:"code"`
			Message kit.Text `json:"message"`
		}
		_ = kit.Unmarshal(a.Body, &e)
		status := a.Status
		if a.OK() && e.Code.Present && t.plant != "error in a success" {
			status = map[string]int{"denied": 401, "down": 503}[e.Code.Value]
		}
		if status < 200 || status >= 300 {
			if tries++; t.plant == "hammers" && tries < 9 {
				return providers.Errorf(providers.ReasonUnavailable, "try again")
			}
			r := kit.Refusal{Provider: "toy", Reason: providers.ReasonOfStatus(status), Text: e.Message.Value}
			failure := r.Error(a)
			if t.plant == "long message" {
				failure.Message += e.Message.Value
			}
			return failure
		}
		if err := kit.Whole(a.Status); err != nil && t.plant != "accepted is done" {
			return err
		}
		return parse(a.Body)
	}
	err := t.http.Do(ctx, call)
	for err != nil && t.plant == "hammers" && tries < 9 {
		err = t.http.Do(ctx, call)
	}
	return err
}

// toyList finds the subscribers.
type toyList struct{ *toy }

func (l *toyList) Describe() providers.Description {
	return providers.Description{
		Key: "list", Kind: providers.KindSubscribers, Interval: l.part.Interval(), Requests: 2, Lists: true,
		Restore: func(kept []byte) (providers.Roster, error) {
			var ids []string
			err := json.Unmarshal(kept, &ids)
			if l.plant == "forgetful" && len(ids) > 0 {
				ids = ids[1:]
			}
			return l.roster(ids), err
		},
	}
}

func (l *toyList) roster(ids []string) providers.List {
	roster := providers.List{}
	for _, id := range ids {
		roster = append(roster, &toySubscriber{l.toy, id})
	}
	return roster
}

func (l *toyList) Fetch(ctx context.Context) (providers.Reading, error) {
	reading := providers.Reading{Dropped: map[providers.DropReason]int{}}
	var ids []string
	var records, total, rows int
	for page := 0; ; page++ {
		more := 0
		err := l.ask(ctx, "/subscribers", fmt.Sprintf("page=%d", page), func(body []byte) error {
			var b struct {
				Page  kit.Number `json:"page"`
				Total kit.Number `json:"total"`
				Items kit.Raw    `json:"items"`
			}
			if err := kit.Unmarshal(body, &b); err != nil {
				return err
			}
			n, ok := b.Page.Count()
			if (!ok || n != page) && l.plant != "any page" {
				return fmt.Errorf("the answer to page %d is another page", page)
			}
			if total, ok = b.Total.Count(); !ok {
				return errors.New(`"total" is missing or is no number`)
			}
			items, ok := b.Items.Elements()
			if !ok && l.plant != "missing is empty" {
				return errors.New(`"items" is no list`)
			}
			for item := range items {
				var row struct {
					ID kit.Text `json:"id"`
				}
				rows++
				more++
				_ = kit.Unmarshal(item, &row)
				switch {
				case row.ID.Value == "" && l.plant == "stops at a bad row":
					total, more = len(ids), 0
					return nil
				case row.ID.Value == "":
					reading.Dropped[providers.DropIncomplete]++
				case slices.Contains(ids, row.ID.Value):
					reading.Dropped[providers.DropDuplicate]++
				default:
					ids = append(ids, row.ID.Value)
				}
			}
			return nil
		})
		if err != nil {
			return providers.Reading{}, err
		}
		records = len(ids)
		switch l.plant {
		case "counts duplicates":
			records = rows
		case "any page", "missing is empty", "no total":
			if more < 2 {
				total = records
			}
		}
		if records >= total {
			break
		}
		if (more == 0 || page > 100) && l.plant != "endless" {
			return providers.Reading{}, providers.Errorf(providers.ReasonBadResponse, "the list ends after %d of %d records", records, total)
		}
	}
	if records > total && l.plant != "counts duplicates" {
		return providers.Reading{}, providers.Errorf(providers.ReasonBadResponse, "the list has %d of %d records", records, total)
	}
	reading.Roster = l.roster(ids)
	reading.Kept, _ = json.Marshal(ids)
	return reading, nil
}

// toySubscriber reads the balances of one subscriber.
type toySubscriber struct {
	*toy
	id string
}

func (s *toySubscriber) Describe() providers.Description {
	key := "subscriber " + s.id
	if s.plant == "unstable key" {
		key += strconv.Itoa(rand.Int())
	}
	return providers.Description{Key: key, Kind: providers.KindSubscribers, Interval: s.part.Interval(), Requests: 1}
}

func (s *toySubscriber) Fetch(ctx context.Context) (providers.Reading, error) {
	var reading providers.Reading
	ask := func() error {
		return s.ask(ctx, "/subscribers/"+url.PathEscape(s.id)+"/balances", "", func(body []byte) (err error) {
			reading, err = s.parse(body)
			return err
		})
	}
	err := ask()
	if s.plant == "more requests" {
		err = ask()
	}
	return reading, err
}

func (s *toySubscriber) parse(body []byte) (providers.Reading, error) {
	reading := providers.Reading{Subscriber: s.id, Dropped: map[providers.DropReason]int{}}
	var b struct {
		Subscriber kit.Text `json:"subscriber"`
		Balances   kit.Raw  `json:"balances"`
	}
	if err := kit.Unmarshal(body, &b); err != nil {
		return reading, err
	}
	if b.Subscriber.Value != s.id && s.plant != "any subscriber" {
		return reading, errors.New("the answer is about another subscriber")
	}
	rows, ok := b.Balances.Elements()
	if !ok {
		return reading, errors.New(`"balances" is no list`)
	}
	n := 0
	for row := range rows {
		n++
		var r struct {
			ID       kit.Text   `json:"id"`
			Currency kit.Text   `json:"currency"`
			Unit     kit.Text   `json:"unit"`
			Value    kit.Number `json:"value"`
		}
		_ = kit.Unmarshal(row, &r)
		if s.plant == "any case" {
			var loose struct{ Value json.Number }
			_ = json.Unmarshal(row, &loose)
			r.Value.Value, _ = loose.Value.Float64()
		}
		balance := providers.SubscriberBalance{ID: providers.Label(r.ID.Value), Currency: providers.Label(r.Currency.Value), Unit: providers.Label(r.Unit.Value), Value: r.Value.Value}
		same := func(other providers.SubscriberBalance) bool { return other.ID == balance.ID }
		switch {
		case !r.Value.OK && s.plant != "0 for missing", balance.ID == "", (balance.Currency == "") == (balance.Unit == ""):
			reading.Dropped[providers.DropIncomplete]++
		case slices.ContainsFunc(reading.SubscriberBalances, same) && s.plant != "twice":
			reading.Dropped[providers.DropDuplicate]++
		default:
			reading.SubscriberBalances = append(reading.SubscriberBalances, balance)
		}
	}
	if n > 0 && len(reading.SubscriberBalances) == 0 && s.plant != "unusable rows" {
		return reading, errors.New("no row can be used")
	}
	return reading, nil
}
