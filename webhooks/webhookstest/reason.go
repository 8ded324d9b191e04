package webhookstest

import (
	"net/http"
	"strconv"

	"github.com/pook/stripeonce/internal/reason"
)

// reasonHeader brings the reason from the receiver to the test, which share a process.
const reasonHeader = "Webhookstest-Reason"

// explained is a handler whose responses say why a delivery was not accepted.
type explained struct{ http.Handler }

func (h explained) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var err error
	h.Handler.ServeHTTP(&explainer{w, &err}, req.WithContext(reason.With(req.Context(), &err)))
}

type explainer struct {
	http.ResponseWriter
	err *error
}

func (w *explainer) WriteHeader(status int) {
	if *w.err != nil {
		w.Header().Set(reasonHeader, strconv.QuoteToASCII((*w.err).Error()))
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *explainer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func reasonIn(header http.Header) string {
	text, err := strconv.Unquote(header.Get(reasonHeader))
	if err != nil {
		return ""
	}
	return text
}
