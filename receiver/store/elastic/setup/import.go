package setup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"

	"wsrelay/receiver/store/elastic"
)

// Import gives the dashboards to the Kibana or OpenSearch Dashboards at url.
// Those that are there from an earlier import are replaced.
func Import(ctx context.Context, url, stream string, a elastic.Access) (Step, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, _ := form.CreateFormFile("file", "wsrelay.ndjson") // a Buffer takes everything
	_, _ = part.Write(Dashboards(stream))
	_ = form.Close()
	c, err := elastic.Dial(url, a)
	if err != nil {
		return Step{}, err
	}
	defer c.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/api/saved_objects/_import?overwrite=true", &body)
	if err != nil {
		return Step{}, err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("kbn-xsrf", "true")
	req.Header.Set("osd-xsrf", "true")
	res, err := c.Perform(req)
	if err != nil {
		return Step{}, fmt.Errorf("import the dashboards: %w", err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return Step{}, fmt.Errorf("import the dashboards: %w", err)
	case res.StatusCode != http.StatusOK || !gjson.GetBytes(answer, "success").Bool():
		return Step{}, fmt.Errorf("import the dashboards: answered %s: %s", res.Status,
			strings.ToValidUTF8(string(answer[:min(len(answer), 300)]), ""))
	}
	return Step{"imported", fmt.Sprintf("dashboards: %d objects", gjson.GetBytes(answer, "successCount").Int())}, nil
}
