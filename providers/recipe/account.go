package recipe

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/balance-exporter/balance_exporter/internal/secret"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/kit"
)

const maxSeries = 200_000

// account is the checked configuration of an account.
type account struct {
	*recipe
	settings values
	secrets  map[string]*secret.Value
	balance  kit.Balance
	prices   priceSettings
	auth     kit.Login // of a recipe with a token
}

// priceSettings are the settings of prices in an account.
type priceSettings struct {
	kit.Part  `yaml:",inline"`
	Countries []string `yaml:"countries"` // upper case; empty for all
	MaxSeries int      `yaml:"max_series"`
}

// configure implements [providers.Provider].
func (r *recipe) configure(section providers.Section) (providers.Account, error) {
	faults := &kit.Faults{Section: section}
	a := r.decode(faults)
	a.check(faults)
	if err := faults.Err(); err != nil {
		return providers.Account{}, err
	}
	checked := providers.Account{
		Identity: a.identity(), Open: a.open,
		OneReader: r.Token != nil && !a.auth.ConcurrentLogins,
	}
	for _, name := range r.Secrets {
		checked.Secrets = append(checked.Secrets, a.secrets[name])
	}
	if a.balance.Enabled {
		checked.Parts = append(checked.Parts, a.balance.Domain())
	}
	if a.prices.Enabled {
		checked.Parts = append(checked.Parts, a.prices.Domain(providers.KindPrices))
	}
	return checked, nil
}

// decode decodes an account. Its keys are those of the recipe, so the struct to decode
// into is made for it.
func (r *recipe) decode(f *kit.Faults) *account {
	a := &account{
		recipe: r, settings: values{}, secrets: map[string]*secret.Value{},
		balance: kit.NewBalance(),
		prices:  priceSettings{Part: kit.NewPart(kit.PricesInterval, kit.PricesMaxAge), MaxSeries: maxSeries},
	}
	a.balance.RefreshInterval = max(a.balance.RefreshInterval, r.MinInterval)
	a.prices.RefreshInterval = max(a.prices.RefreshInterval, r.MinInterval)
	a.balance.Enabled, a.prices.Enabled = r.Balance != nil, r.Prices != nil
	// Prices of every country would take a request for each.
	a.prices.Enabled = a.prices.Enabled && (!r.perCountry() || f.Section.Has("prices.countries"))

	var fields []reflect.StructField
	field := func(key string, kind reflect.Type) {
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("F%d", len(fields)), Type: kind, Tag: reflect.StructTag(`yaml:"` + key + `"`),
		})
	}
	for _, name := range r.Settings {
		field(name, reflect.TypeFor[string]())
	}
	for _, name := range r.Secrets {
		field(name, reflect.TypeFor[*secret.Value]())
	}
	var parts []any
	if r.Balance != nil {
		field("balance", reflect.TypeFor[*kit.Balance]())
		parts = append(parts, &a.balance)
	}
	if r.Prices != nil {
		field("prices", reflect.TypeFor[*priceSettings]())
		parts = append(parts, &a.prices)
	}
	if r.Token != nil {
		field("auth", reflect.TypeFor[*kit.Login]())
		parts = append(parts, &a.auth)
	}
	decoded := reflect.New(reflect.StructOf(fields))
	for i, part := range parts {
		decoded.Elem().Field(len(fields) - len(parts) + i).Set(reflect.ValueOf(part))
	}
	f.Add(f.Section.Decode(decoded.Interface()))
	for i, name := range r.Settings {
		a.settings[name] = strings.TrimSpace(decoded.Elem().Field(i).String())
	}
	for i, name := range r.Secrets {
		a.secrets[name], _ = decoded.Elem().Field(len(r.Settings) + i).Interface().(*secret.Value)
	}
	return a
}

// perCountry reports whether prices are asked for by country.
func (r *recipe) perCountry() bool {
	if r.Prices == nil {
		return false
	}
	return slices.ContainsFunc(r.Prices.Step.Request.places(), func(p place) bool {
		return slices.Contains(placeholders(p.text), countryName)
	})
}

func (a *account) check(f *kit.Faults) {
	var missing []string
	for _, name := range a.Settings {
		if a.settings[name] == "" {
			missing = append(missing, name)
		}
	}
	for _, name := range a.Secrets {
		if a.secrets[name] == nil {
			missing = append(missing, fmt.Sprintf("%[1]s (or %[1]s_file)", name))
		}
	}
	off := !a.balance.Enabled && !a.prices.Enabled
	noCountry := a.Prices != nil && !f.Section.Has("prices.countries") && a.perCountry()
	f.If(len(missing) > 0, "", "provider %s also needs %s", a.Name, strings.Join(missing, ", "))
	f.If(off && noCountry, "prices.countries", "is required, because %s returns prices one country at a time: the countries, such as [US, DE]", a.Name)
	f.If(off && !noCountry, "balance.enabled", "everything is turned off; turn balance or prices on, or remove the account")
	for _, name := range a.Settings {
		value := a.settings[name]
		f.If(strings.ContainsFunc(value, unicode.IsControl), name, "must be one line; correct it")
	}
	if len(missing) == 0 {
		a.checkValues(f)
	}
	for path, part := range map[string]*kit.Part{"balance": &a.balance.Part, "prices": &a.prices.Part} {
		if part.Enabled {
			f.If(part.RefreshInterval < a.MinInterval, path+".refresh_interval", "must be at least %s, the shortest that %s allows", a.MinInterval, a.Name)
			part.Check(f, path)
		}
	}
	if a.prices.Enabled {
		a.checkPrices(f)
	}
}

// checkValues checks that the settings fit the places where they stand, with harmless
// secrets, which may change later.
func (a *account) checkValues(f *kit.Faults) {
	filled := maps.Clone(a.settings)
	for _, name := range append(slices.Clone(a.Secrets), tokenName, countryName) {
		filled[name] = "x"
	}
	for _, s := range a.steps() {
		_, err := s.Request.call(filled)
		if err == nil {
			_, err = s.Request.header(filled)
		}
		var bad *valueError
		if errors.As(err, &bad) {
			f.If(true, bad.name, "%s", bad.problem)
		}
	}
}

func (a *account) checkPrices(f *kit.Faults) {
	f.If(a.prices.MaxSeries < 1, "prices.max_series", "must be at least 1")
	f.If(a.perCountry() && len(a.prices.Countries) == 0, "prices.countries", "is required, because %s returns prices one country at a time: the countries, such as [US, DE]", a.Name)
	for i, country := range a.prices.Countries {
		path := fmt.Sprintf("prices.countries[%d]", i)
		code, ok := kit.Country(country)
		f.If(!ok, path, "%q must be the two letters of ISO 3166-1, such as SG", country)
		f.If(ok && slices.Contains(a.prices.Countries[:i], code), path, "%s is listed twice", code)
		a.prices.Countries[i] = code
	}
}

// identity names the remote account by its settings; empty if only secrets do.
func (a *account) identity() string {
	var parts []string
	for _, name := range a.Settings {
		parts = append(parts, name+" "+a.settings[name])
	}
	return strings.Join(parts, "\x00")
}

// open implements [providers.Account].
func (a *account) open(env providers.Env) ([]providers.Source, error) {
	c := newClient(a, env)
	var sources []providers.Source
	if a.balance.Enabled {
		sources = append(sources, &balanceSource{client: c, key: "balance-" + a.hash(&a.Balance.Step, &a.Balance.Amounts), interval: a.balance.Interval()})
	}
	if a.prices.Enabled {
		sources = append(sources, &priceSource{
			client: c, key: "prices-" + a.hash(&a.Prices.Step, &a.Prices.Amounts, a.prices.Countries, a.prices.MaxSeries), interval: a.prices.Interval(),
		})
	}
	return sources, nil
}

// hash differs between sources that read different values. It has nothing of a secret.
func (a *account) hash(s *step, read *amounts, more ...any) string {
	more = append(more, s.Request.Method, s.Request.Host, s.Request.places(), read.Value, a.currency(read.Currency), read.divisor())
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", more))
	return hex.EncodeToString(sum[:6])
}

// currency returns a currency of the recipe with the settings filled in.
func (a *account) currency(text string) string {
	filled, _ := a.settings.fill(text, plain)
	return normalCurrency(filled)
}

// normalCurrency returns ISO 4217 in upper case, and any other unit as it is.
func normalCurrency(text string) string {
	text = strings.TrimSpace(text)
	if code, ok := kit.Currency(text); ok {
		return code
	}
	return text
}

// steps returns all requests of the recipe.
func (r *recipe) steps() []*step {
	var all []*step
	if r.Token != nil {
		all = append(all, &r.Token.Step)
	}
	if r.Balance != nil {
		all = append(all, &r.Balance.Step)
	}
	if r.Prices != nil {
		all = append(all, &r.Prices.Step)
	}
	return all
}

// defaultTokenLife is the age at which a token of unknown life is renewed. A refused
// one is renewed at once.
const defaultTokenLife = time.Hour
