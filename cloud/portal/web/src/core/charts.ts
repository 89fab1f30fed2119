// ECharts, only the parts we draw with; loaded when the first chart is looked at.
import { LineChart } from 'echarts/charts'
import { AxisPointerComponent, DataZoomInsideComponent, GridComponent, MarkAreaComponent, MarkLineComponent, TooltipComponent } from 'echarts/components'
import { init, use } from 'echarts/core'
import { CanvasRenderer } from 'echarts/renderers'

use([LineChart, GridComponent, TooltipComponent, AxisPointerComponent, DataZoomInsideComponent, MarkLineComponent, MarkAreaComponent, CanvasRenderer])
export { init }
export type { EChartsType } from 'echarts/core'
