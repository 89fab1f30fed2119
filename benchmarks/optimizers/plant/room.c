/* A heated room with a heavy wall as an FMI 2.0 co-simulation unit: written for the benchmark's plant, knows nothing of the optimizer's formulas.
 * Variables (SI): 0 TRoom K, 1 TWall K, 2 QHeat W, 3 TOut K, 4 EHeat J. Integrated in steps of 10 s by Heun's method. */
#include <stdlib.h>
#include <string.h>

typedef struct { double v[5]; } Room;

static const double C_ROOM = 1.2e9, C_WALL = 6.0e9, K_WALL = 40e3, K_OUT = 6e3, K_WALL_OUT = 4e3;

static void slope(const double *v, double *d) {
    d[0] = (v[2] + K_WALL * (v[1] - v[0]) + K_OUT * (v[3] - v[0])) / C_ROOM;
    d[1] = (K_WALL * (v[0] - v[1]) + K_WALL_OUT * (v[3] - v[1])) / C_WALL;
}

void *fmi2Instantiate(const char *name, int type, const char *guid, const char *resources, const void *callbacks, int visible, int logging) {
    (void)name; (void)resources; (void)callbacks; (void)visible; (void)logging;
    if (type != 1 || strcmp(guid, "{kang-room-1}") != 0) return NULL;
    Room *room = calloc(1, sizeof *room);
    if (room) { room->v[0] = room->v[1] = 293.15; room->v[3] = 268.15; }
    return room;
}
void fmi2FreeInstance(void *c) { free(c); }
int fmi2SetupExperiment(void *c, int d, double t, double s, int e, double f) { (void)c; (void)d; (void)t; (void)s; (void)e; (void)f; return 0; }
int fmi2EnterInitializationMode(void *c) { (void)c; return 0; }
int fmi2ExitInitializationMode(void *c) { (void)c; return 0; }
int fmi2Terminate(void *c) { (void)c; return 0; }
int fmi2Reset(void *c) { (void)c; return 0; }
int fmi2SetReal(void *c, const unsigned *r, size_t n, const double *x) {
    for (size_t k = 0; k < n; k++) { if (r[k] > 3) return 3; ((Room *)c)->v[r[k]] = x[k]; }
    return 0;
}
int fmi2GetReal(void *c, const unsigned *r, size_t n, double *x) {
    for (size_t k = 0; k < n; k++) { if (r[k] > 4) return 3; x[k] = ((Room *)c)->v[r[k]]; }
    return 0;
}
int fmi2DoStep(void *c, double t, double h, int keep) {
    (void)t; (void)keep;
    double *v = ((Room *)c)->v;
    if (h <= 0) return 3;
    int n = (int)(h / 10.0 + 0.999999);
    double dt = h / n;
    for (int k = 0; k < n; k++) {
        double a[2], b[2], w[5];
        slope(v, a);
        memcpy(w, v, sizeof w);
        w[0] += dt * a[0]; w[1] += dt * a[1];
        slope(w, b);
        v[0] += dt / 2 * (a[0] + b[0]); v[1] += dt / 2 * (a[1] + b[1]);
        v[4] += dt * v[2];
    }
    return 0;
}
const char *fmi2GetVersion(void) { return "2.0"; }
const char *fmi2GetTypesPlatform(void) { return "default"; }

/* What the standard names and this plant has not: refused. */
#define REFUSED(name) int fmi2##name(void) { return 3; }
REFUSED(CancelStep) REFUSED(GetBoolean) REFUSED(GetInteger) REFUSED(GetString) REFUSED(SetBoolean) REFUSED(SetInteger)
REFUSED(SetString) REFUSED(GetFMUstate) REFUSED(SetFMUstate) REFUSED(FreeFMUstate) REFUSED(SerializedFMUstateSize)
REFUSED(SerializeFMUstate) REFUSED(DeSerializeFMUstate) REFUSED(GetDirectionalDerivative) REFUSED(SetRealInputDerivatives)
REFUSED(GetRealOutputDerivatives) REFUSED(GetStatus) REFUSED(GetRealStatus) REFUSED(GetIntegerStatus) REFUSED(GetBooleanStatus)
REFUSED(GetStringStatus)
int fmi2SetDebugLogging(void) { return 0; }
