// The types that examples/grafana-dashboard.json must have.
import type { AnnotationQuery, Dashboard, Panel, RowPanel, VariableModel } from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as series from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';

// Plain has the values of enums in place of the enums: JSON has no enums.
type Plain<T> =
  T extends string ? `${T}` :
  T extends number ? (`${T}` extends `${infer N extends number}` ? N : number) :
  T extends (infer U)[] ? Plain<U>[] :
  T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

interface Target {
  datasource: { type: string; uid: string };
  editorMode: 'code';
  expr: string;
  refId: string;
  format?: 'table' | 'time_series' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  legendFormat?: string;
}

type Typed<Name extends string, Options, Custom> = Omit<Plain<Panel<Options & Record<string, unknown>, Custom>>, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Name;
  options: Partial<Plain<Options>>; // defaults apply
  targets: Target[];
  fieldConfig: { defaults: Omit<NonNullable<Plain<Panel>['fieldConfig']>['defaults'], 'custom'> & { custom?: Plain<Custom> }; overrides: NonNullable<Plain<Panel>['fieldConfig']>['overrides'] };
};

// What the Prometheus data source adds.
type Annotation = Plain<AnnotationQuery> & { expr?: string; step?: string; tagKeys?: string; titleFormat?: string };
type Variable = Omit<Plain<VariableModel>, 'query'> & { definition?: string; query: string | { qryType: number; query: string; refId: string } };

export type Board = Omit<Plain<Dashboard>, 'panels' | 'id' | 'annotations' | 'templating'> & {
  id: null;
  annotations: { list: Annotation[] };
  templating: { list: Variable[] };
  panels: (
    | Typed<'stat', stat.Options, {}>
    | Typed<'table', table.Options, table.FieldConfig>
    | Typed<'timeseries', series.Options, series.FieldConfig>
    | Typed<'state-timeline', timeline.Options, timeline.FieldConfig>
    | Plain<RowPanel>
  )[];
};
