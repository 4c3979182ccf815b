package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"dunlin/facts"
	"dunlin/facts/cache"
	"dunlin/facts/rdf"
)

func factsCommand() *cobra.Command {
	return group("facts", "Check, look up and publish the facts that explain a model's answers",
		factsImportCommand(), factsQueryCommand(), factsPushCommand())
}

func factsImportCommand() *cobra.Command {
	var out, graph string
	var version int64
	var asJSON bool
	c := &cobra.Command{
		Use:   "import FILE.nt… [-o BASE]",
		Short: "Check N-Triples files, and build the file that a device looks facts up in",
		Long: `Import reads N-Triples (RDF 1.1), says where a line is wrong, and with -o builds the
packed, indexed base that devices keep in their cache; dunlin facts query reads it.`,
		Example: `  dunlin facts import garments.nt
  dunlin facts import garments.nt --graph garments -o garments.facts`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n := 0
			all := counted(readAll(args), &n)
			if out != "" {
				if err := cache.Build(out, graph, version, all); err != nil {
					return err
				}
			} else {
				for _, err := range all {
					if err != nil {
						return err
					}
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"facts": n, "base": out})
			}
			text := fmt.Sprintf("%d facts read", n)
			if info, err := os.Stat(out); out != "" && err == nil {
				text += fmt.Sprintf(", %s: %s", out, bytesText(info.Size()))
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "write the packed base to this file")
	c.Flags().StringVar(&graph, "graph", "facts", "name of the graph")
	c.Flags().Int64Var(&version, "version", 1, "version of the graph")
	jsonFlag(c, &asJSON)
	return c
}

// readAll yields the facts of every file, and a *rdf.SyntaxError, with the
// file's name, where one ends early.
func readAll(files []string) iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				yield(facts.Fact{}, err)
				return
			}
			for fact, err := range rdf.NewReader(f).All() {
				if err != nil {
					err = fmt.Errorf("%s: %w", name, err)
				}
				if !yield(fact, err) || err != nil {
					f.Close()
					return
				}
			}
			f.Close()
		}
	}
}

func counted(all iter.Seq2[facts.Fact, error], n *int) iter.Seq2[facts.Fact, error] {
	return func(yield func(facts.Fact, error) bool) {
		for f, err := range all {
			if err == nil {
				*n++
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

func factsQueryCommand() *cobra.Command {
	var (
		hub                   hubFlags
		describe, enrich      string
		subject, pred, object string
		limit                 int
		asJSON                bool
	)
	c := &cobra.Command{
		Use:   "query [BASE]",
		Short: "Look facts up, in a base or on the hub",
		Long: `Query reads BASE, a file that dunlin facts import -o made, or asks the hub. A term is
written as in N-Triples: <http://…>, "text", "text"@en; a bare http://… is an IRI.`,
		Example: `  dunlin facts query garments.facts --describe https://dunlin.example/garments/kind/sneaker
  dunlin facts query garments.facts --predicate http://www.w3.org/2000/01/rdf-schema#label
  dunlin facts query --describe https://dunlin.example/garments/kind/sneaker --token-file hub/admin.token`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				if describe == "" {
					return usagef("the hub answers --describe IRI; give a BASE for the other questions")
				}
				return queryHub(c.Context(), hub, describe, c.OutOrStdout())
			}
			db, err := cache.OpenReadOnly(args[0])
			if err != nil {
				return withHint(err, "make a base of N-Triples with: dunlin facts import FILE.nt -o BASE")
			}
			defer db.Close()
			if enrich != "" {
				answers, err := db.Enrich(enrich, limit)
				if err != nil {
					return err
				}
				return printAnswers(c.OutOrStdout(), answers, asJSON)
			}
			var found []facts.Fact
			if describe != "" {
				found, err = db.Describe(facts.Resource(describe), 1, limit)
			} else {
				s, e1 := queryTerm(subject)
				p, e2 := queryTerm(pred)
				o, e3 := queryTerm(object)
				if err := errors.Join(e1, e2, e3); err != nil {
					return err
				}
				found, err = db.Match(s, p, o, limit)
			}
			if err != nil {
				return err
			}
			w := rdf.NewWriter(c.OutOrStdout())
			for _, f := range found {
				if err := w.Write(f); err != nil {
					return err
				}
			}
			return w.Flush()
		},
	}
	hub.register(c)
	f := c.Flags()
	f.StringVar(&describe, "describe", "", "all facts of this entity (IRI)")
	f.StringVar(&enrich, "enrich", "", "what a device would add to an answer about this entity (IRI)")
	f.StringVar(&subject, "subject", "", "pattern: subject, left out for any")
	f.StringVar(&pred, "predicate", "", "pattern: predicate")
	f.StringVar(&object, "object", "", "pattern: object")
	f.IntVar(&limit, "limit", 100, "at most so many facts")
	jsonFlag(c, &asJSON)
	return c
}

// queryTerm reads a term of a pattern; "" is any.
func queryTerm(s string) (facts.Term, error) {
	switch {
	case s == "":
		return facts.Term{}, nil
	case strings.HasPrefix(s, "http://"), strings.HasPrefix(s, "https://"):
		return facts.Resource(s), nil
	}
	t, err := rdf.ParseTerm(s)
	if err != nil {
		return t, usageError{err}
	}
	return t, nil
}

func printAnswers(w io.Writer, answers []facts.Answer, asJSON bool) error {
	if asJSON {
		return printJSON(w, answers)
	}
	rows := [][]string{{"WHAT", "FACT", "SOURCE"}}
	for _, a := range answers {
		rows = append(rows, []string{a.Label, a.Object, a.Source})
	}
	table(w, rows)
	return nil
}

func queryHub(ctx context.Context, hub hubFlags, iri string, w io.Writer) error {
	api, err := hub.client()
	if err != nil {
		return err
	}
	var out any
	if err := api.do(ctx, "GET", "/v1/facts/describe?iri="+url.QueryEscape(iri), nil, &out); err != nil {
		return err
	}
	return printJSON(w, out)
}

func factsPushCommand() *cobra.Command {
	var hub hubFlags
	var graph string
	var asJSON bool
	c := &cobra.Command{
		Use:     "push FILE.nt…",
		Short:   "Add facts to the hub's graph; every device gets what is new",
		Example: `  dunlin facts push garments.nt --graph garments --token-file hub/admin.token`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			api, err := hub.client()
			if err != nil {
				return err
			}
			var out map[string]any
			for _, file := range args {
				if out, err = pushFacts(c.Context(), api, graph, file); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), out)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "graph %s is at version %v\n", graph, out["version"])
			return err
		},
	}
	hub.register(c)
	c.Flags().StringVar(&graph, "graph", "facts", "name of the graph")
	jsonFlag(c, &asJSON)
	return c
}

// pushFacts checks a file, then sends it as one document: blank nodes of two
// documents are different nodes.
func pushFacts(ctx context.Context, api *client, graph, file string) (map[string]any, error) {
	body := streamFacts(file)
	defer body.Close() // ends the writer where the hub did not read to the end
	q := url.Values{"graph": {graph}, "document": {filepath.Base(file)}}
	var out map[string]any
	err := api.do(ctx, "POST", "/v1/facts?"+q.Encode(), body, &out)
	return out, err
}

// factsBody is a file of facts on its way, checked as it goes.
type factsBody struct {
	*io.PipeReader
	err atomic.Pointer[error]
}

func streamFacts(file string) *factsBody {
	r, w := io.Pipe()
	b := &factsBody{PipeReader: r}
	go func() {
		nt := rdf.NewWriter(w)
		for f, err := range readAll([]string{file}) {
			if err == nil {
				err = nt.Write(f)
			}
			if err != nil {
				if !errors.Is(err, io.ErrClosedPipe) {
					b.err.Store(&err)
				}
				w.CloseWithError(err)
				return
			}
		}
		w.CloseWithError(nt.Flush())
	}()
	return b
}

func (b *factsBody) failure() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}
