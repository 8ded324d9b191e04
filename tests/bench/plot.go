package main

import (
	"fmt"
	"math"
	"strings"
)

// plot is a chart of events per second with a logarithmic horizontal axis.
type plot struct {
	file, title, x string
	series         []series
}

type series struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// The plot's dimensions, in pixels.
const (
	plotWidth, plotHeight    = 640, 320
	plotLeft, plotRight      = 64, 24
	plotTop, plotBottom      = 40, 48
	plotInnerWidth           = plotWidth - plotLeft - plotRight
	plotInnerHeight          = plotHeight - plotTop - plotBottom
	plotSteps                = 4
	plotLegend, plotLineStep = 8, 18
)

// svg renders the plot. Its colors follow the reader's color scheme, light or dark.
func (p plot) svg() string {
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s" font-family="system-ui, sans-serif" font-size="12">
<style>
text { fill: #333 } .grid { stroke: #ddd } .line { fill: none; stroke-width: 2.5 } .s0 { stroke: #8a8f98 } .s1 { stroke: #4f46e5 } .d0 { fill: #8a8f98 } .d1 { fill: #4f46e5 } .back { fill: #fff }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #333 } .s1 { stroke: #9d97ff } .d1 { fill: #9d97ff } .back { fill: #0d1117 } }
</style>
<rect class="back" width="100%%" height="100%%"/>
<text x="%d" y="22" font-size="14" font-weight="600">%s</text>
`, plotWidth, plotHeight, p.title, plotLeft, p.title)
	lowest, highest, top := math.Inf(1), 0.0, 0.0
	for _, one := range p.series {
		for _, at := range one.points {
			lowest, highest, top = min(lowest, at.x), max(highest, at.x), max(top, at.y)
		}
	}
	step := niceStep(top / plotSteps)
	top = step * math.Ceil(top/step)
	x := func(v float64) float64 {
		return plotLeft + plotInnerWidth*(math.Log(v)-math.Log(lowest))/(math.Log(highest)-math.Log(lowest))
	}
	y := func(v float64) float64 { return plotTop + plotInnerHeight*(1-v/top) }
	for v := 0.0; v <= top; v += step {
		fmt.Fprintf(&s, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>\n<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
			plotLeft, plotWidth-plotRight, y(v), y(v), plotLeft-8, y(v)+4, thousands(int(v)))
	}
	for _, at := range p.series[0].points {
		label := thousands(int(at.x))
		if at.x == 1 && highest > 1000 {
			label = "none"
		}
		fmt.Fprintf(&s, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", x(at.x), plotHeight-plotBottom+plotLineStep, label)
	}
	fmt.Fprintf(&s, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", plotLeft+plotInnerWidth/2, plotHeight-plotLegend, p.x)
	for i, one := range p.series {
		class := i + 2 - len(p.series) // the last series, stripeonce, is in color
		var path strings.Builder
		for j, at := range one.points {
			fmt.Fprintf(&path, "%c%.1f %.1f ", "ML"[min(j, 1)], x(at.x), y(at.y))
			fmt.Fprintf(&s, "<circle class=\"d%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", class, x(at.x), y(at.y))
		}
		fmt.Fprintf(&s, "<path class=\"line s%d\" d=\"%s\"/>\n", class, strings.TrimSpace(path.String()))
		end := one.points[len(one.points)-1]
		fmt.Fprintf(&s, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" font-weight=\"600\">%s</text>\n", x(end.x), y(end.y)-plotLegend, one.name)
	}
	return s.String() + "</svg>\n"
}

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(atLeast float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(atLeast)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= atLeast {
			return factor * power
		}
	}
	return 10 * power
}
