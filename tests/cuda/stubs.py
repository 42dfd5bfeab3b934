"""Libraries with the names and symbols of CUDA's, that compute nothing: the real provider places nodes on any machine.

ONNX Runtime's CUDA provider decides where a node runs, which copies between devices it takes and where outputs lie,
before any kernel is launched.  With these stubs for the driver and the libraries it does all of that: device memory is
memory of the host, copies are copies, launches do nothing.  What a graph computes is garbage; where, is the truth.

What the driver says of itself can be chosen by environment variables: ``STUB_INIT``, the status of ``cuInit``;
``STUB_DRIVER``, the version, as 12040; ``STUB_DEVICES``, how many; ``STUB_CAPABILITY``, as 90 for 9.0.

The symbols are those that the installed provider wants, read off the file with binutils' ``nm``, and built with a C
compiler; so any build of ONNX Runtime with CUDA can be tried.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path

_C = r"""
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
static void *device_memory(size_t size) {  /* zeros: what is never computed is finite */
  size = (size + 255) / 256 * 256 + 256;
  return memset(aligned_alloc(256, size), 0, size);
}
static size_t returned, waited, launched;
size_t stub_returned(void) { return returned; }  /* bytes from the device to the host */
size_t stub_waited(void) { return waited; }      /* times that the host waited for the device */
size_t stub_launched(void) { return launched; }  /* kernels and recordings */
static int copied(void *d, const void *s, size_t n, int k) { memcpy(d, s, n); returned += k == 2 ? n : 0; return 0; }
static int object(void **handle) { *handle = calloc(1, 4096); return 0; }
static void properties(char *p) {  /* struct cudaDeviceProp; the part that releases 11 to 13 have in common */
  memset(p, 0, 640);
  strcpy(p, "Stub GPU");
  *(size_t *)(p + 288) = (size_t)16 << 30;  /* totalGlobalMem */
  *(size_t *)(p + 296) = 49152;             /* sharedMemPerBlock */
  *(int *)(p + 308) = 32;                   /* warpSize */
  *(int *)(p + 320) = 1024;                 /* maxThreadsPerBlock */
  *(int *)(p + 360) = 9;                    /* major, then minor */
  for (int at = 384; at < 640; at += 4) *(int *)(p + at) = at < 400 ? 132 : 2048;
}
static int told(const char *variable, int otherwise) {
  const char *value = getenv(variable);
  return value ? atoi(value) : otherwise;
}
static int attribute(int *value, int which) {
  int capability = told("STUB_CAPABILITY", 90);
  *value = which == 75 ? capability / 10 : which == 76 ? capability % 10 : which == 16 ? 132 : which == 10 ? 32 : 1024;
  return 0;
}
"""

_BODIES = {
    "cudaGetDeviceCount": '(int *n) { *n = told("STUB_DEVICES", 1); return 0; }',
    "cudaGetDevice": "(int *n) { *n = 0; return 0; }",
    "cudaMalloc": "(void **p, size_t n) { *p = device_memory(n); return 0; }",
    "cudaMallocAsync": "(void **p, size_t n, void *s) { *p = device_memory(n); return 0; }",
    "cudaMallocHost": "(void **p, size_t n) { *p = device_memory(n); return 0; }",
    "cudaHostAlloc": "(void **p, size_t n, unsigned f) { *p = device_memory(n); return 0; }",
    "cudaFree": "(void *p) { free(p); return 0; }",
    "cudaFreeAsync": "(void *p, void *s) { free(p); return 0; }",
    "cudaFreeHost": "(void *p) { free(p); return 0; }",
    "cudaMemGetInfo": "(size_t *a, size_t *b) { *a = *b = (size_t)16 << 30; return 0; }",
    "cudaMemcpy": "(void *d, const void *s, size_t n, int k) { waited++; return copied(d, s, n, k); }",
    "cudaMemcpyAsync": "(void *d, const void *s, size_t n, int k, void *t) { return copied(d, s, n, k); }",
    "cudaMemset": "(void *d, int v, size_t n) { memset(d, v, n); return 0; }",
    "cudaMemsetAsync": "(void *d, int v, size_t n, void *t) { memset(d, v, n); return 0; }",
    "cudaGetDeviceProperties": "(char *p, int d) { properties(p); return 0; }",
    "cudaGetDeviceProperties_v2": "(char *p, int d) { properties(p); return 0; }",
    "cudaDeviceGetAttribute": "(int *v, int which, int d) { return attribute(v, which); }",
    "cudaRuntimeGetVersion": "(int *v) { *v = 13000; return 0; }",
    "cudaDriverGetVersion": "(int *v) { *v = 13000; return 0; }",
    "cudaEventElapsedTime": "(float *ms, void *a, void *b) { *ms = 1; return 0; }",
    "cudaStreamEndCapture": "(void *s, void **graph) { return object(graph); }",
    "cudaGraphLaunch": "(void *graph, void *s) { launched++; return 0; }",
    "cudaLaunchKernel": "(void *kernel) { launched++; return 0; }",
    "cudaStreamSynchronize": "(void *s) { waited++; return 0; }",
    "cudaDeviceSynchronize": "(void) { waited++; return 0; }",
    "cudaEventSynchronize": "(void *e) { waited++; return 0; }",
    "cudaGraphInstantiate": "(void **executable) { return object(executable); }",
    **{
        f"cudnnGetConvolution{which}AlgorithmMaxCount": "(void *h, int *n) { *n = 1; return 0; }"
        for which in ("Forward", "BackwardData", "BackwardFilter")
    },
    **{
        f"cudnnGetConvolution{which}WorkspaceSize": (
            "(void *h, void *a, void *b, void *c, void *d, int algo, size_t *n) { *n = 0; return 0; }"
        )
        for which in ("Forward", "BackwardData", "BackwardFilter")
    },
    **{
        f"cudnnFindConvolution{which}AlgorithmEx": (
            "(void *h, void *a, void *b, void *c, void *d, void *e, void *f, void *g, int most, int *n, char *found) "
            "{ *n = 1; memset(found, 0, 48); return 0; }"
        )
        for which in ("Forward", "BackwardData", "BackwardFilter")
    },
    **{
        f"cudnnGetConvolution{which}Algorithm_v7": (
            "(void *h, void *a, void *b, void *c, void *d, int most, int *n, char *found) "
            "{ *n = 1; memset(found, 0, 48); return 0; }"
        )
        for which in ("Forward", "BackwardData", "BackwardFilter")
    },
    # The driver, as the names of its interface are: _v2 where it has changed.
    "cuInit": '(unsigned flags) { return told("STUB_INIT", 0); }',
    "cuDriverGetVersion": '(int *v) { *v = told("STUB_DRIVER", 13000); return 0; }',
    "cuDeviceGetCount": '(int *n) { *n = told("STUB_DEVICES", 1); return 0; }',
    "cuDeviceGet": "(int *d, int n) { *d = n; return 0; }",
    "cuDeviceGetName": '(char *name, int n, int d) { strncpy(name, "Stub GPU", n); return 0; }',
    "cuDeviceTotalMem_v2": "(size_t *n, int d) { *n = (size_t)16 << 30; return 0; }",
    "cuDeviceGetAttribute": "(int *v, int which, int d) { return attribute(v, which); }",
    "cuDevicePrimaryCtxRetain": "(void **c, int d) { return object(c); }",
    "cuCtxSetCurrent": "(void *c) { return 0; }",
    "cuThreadExchangeStreamCaptureMode": "(int *mode) { *mode = 0; return 0; }",
    "cuMemAlloc_v2": "(void **p, size_t n) { if (n >> 34) return 2; *p = device_memory(n); return 0; }",
    "cuMemFree_v2": "(void *p) { free(p); return 0; }",
    "cuMemHostAlloc": "(void **p, size_t n, unsigned f) { *p = device_memory(n); return 0; }",
    "cuMemFreeHost": "(void *p) { free(p); return 0; }",
    "cuMemGetInfo_v2": "(size_t *a, size_t *b) { *a = *b = (size_t)16 << 30; return 0; }",
    "cuMemcpyHtoDAsync_v2": "(void *d, const void *s, size_t n, void *t) { memcpy(d, s, n); return 0; }",
    "cuMemcpyDtoHAsync_v2": "(void *d, const void *s, size_t n, void *t) { return copied(d, s, n, 2); }",
    "cuMemcpyDtoDAsync_v2": "(void *d, const void *s, size_t n, void *t) { memcpy(d, s, n); return 0; }",
    "cuMemsetD32Async": "(unsigned *d, unsigned v, size_t n, void *t) { while (n--) *d++ = v; return 0; }",
    "cuStreamCreate": "(void **s, unsigned f) { return object(s); }",
    "cuStreamSynchronize": "(void *s) { waited++; return 0; }",
    "cuStreamWaitEvent": "(void *s, void *e, unsigned f) { return 0; }",
    "cuEventCreate": "(void **e, unsigned f) { return object(e); }",
    "cuEventRecord": "(void *e, void *s) { return 0; }",
    "cuEventSynchronize": "(void *e) { return 0; }",
}
_DRIVER = "libcuda.so.1"
_LOOKED_UP = (  # in the driver, by name, at run time
    "cuGetErrorName cuFuncSetAttribute cuFuncSetCacheConfig cuLinkComplete cuModuleUnload cuLinkDestroy "
    "cuModuleLoadData cuLinkCreate_v2 cuModuleGetFunction cuLinkAddFile_v2 cuLinkAddData_v2 "
    "cuLaunchCooperativeKernel cuLaunchKernel cuEventDestroy_v2 "
    "cuStreamDestroy_v2 cuDevicePrimaryCtxRelease_v2 cuCtxPushCurrent_v2 cuCtxPopCurrent_v2"
)
_POINTERS = {"__cudaRegisterFatBinary": "void **%s() { static void *x[64]; return x; }"}
_MAKES_AN_OBJECT = re.compile(r"^cu(da(Event|Stream)|dnn|blas|fft).*Create(Descriptor|WithFlags|_v2|WithPriority)?$")


def provider() -> Path | None:
    """The CUDA provider of the installed ONNX Runtime, if it has one."""
    import onnxruntime

    found = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    return found if found.is_file() else None


def build(provider: Path, folder: Path) -> Path:
    """Makes the stubs that *provider* loads, and one of the driver, in *folder*, which goes into LD_LIBRARY_PATH."""
    listing = subprocess.run(["nm", "-D", "--undefined-only", provider], check=True, capture_output=True, text=True)
    symbols: dict[str, set[str]] = defaultdict(set)
    for symbol, library in re.findall(r" U (\w+)@+(libcu\w+\.so[.\d]*)", listing.stdout):
        symbols[library].add(symbol)
    needed = subprocess.run(["readelf", "-d", provider], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"NEEDED.*\[(libcu\w+\.so[.\d]*)\]", needed):
        symbols[library] |= set()
    if "libcudart.so.13" in symbols:  # these builds open cuDNN when they first need it
        symbols["libcudnn.so.9"] |= {
            name.decode() for name in re.findall(rb"\0(cudnn[A-Z]\w+)\0", provider.read_bytes())
        }
    symbols[_DRIVER] |= set(re.findall(r" U (cu[A-Z]\w+)$", listing.stdout, re.MULTILINE))
    symbols[_DRIVER] |= {name for name in _BODIES if not name.startswith("cuda")} | set(_LOOKED_UP.split())
    folder.mkdir(parents=True, exist_ok=True)
    for library, names in symbols.items():
        _compile(folder, library, sorted(names))
    return folder


def _compile(folder: Path, library: str, names: list[str]) -> None:
    source, versions = folder / f"{library}.c", folder / f"{library}.map"
    source.write_text(_C + "\n".join(map(_function, names)) + "\n")
    versions.write_text(f"{library} {{ global: *; }};\n")
    flags = ["-w", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{library}", f"-Wl,--version-script={versions}"]
    subprocess.run(["gcc", *flags, "-o", folder / library, source], check=True)


def _function(name: str) -> str:
    if name in _POINTERS:
        return _POINTERS[name] % name
    if name.endswith(("ErrorString", "ErrorName", "StatusName", "StatusString")):
        return f'const char *{name}() {{ return "stub"; }}'
    if name in _BODIES:
        return f"int {name}{_BODIES[name]}"
    if _MAKES_AN_OBJECT.match(name):
        return f"int {name}(void **handle) {{ return object(handle); }}"
    return f"int {name}() {{ return 0; }}"
