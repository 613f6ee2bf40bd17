package hearpack.android

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFiles
import hearpack.core.bundle.EngineException
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.SelfCheck
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.openBest
import hearpack.core.trace.ColdStart
import hearpack.core.trace.TraceRecorder

/** A bundle's model, loaded and warm, and what that took: the same for all streams of it. */
internal class LoadedModel(
    val bundle: Bundle,
    val opened: OpenedEngine,
    val cold: ColdStart,
)

/**
 * Opens a bundle, loads its model on the fastest unit that takes it, and checks it where this device has not yet.
 *
 * @param readyNs when the app was ready for it.
 * @param checking told of every tenth of the self-check, and then of its report.
 * @return null where the self-check failed.
 * @throws BundleException the bundle cannot be used.
 * @throws EngineException no unit takes the model.
 */
internal fun loadModel(
    files: BundleFiles,
    phone: Phone,
    readyNs: Long,
    loaded: (OpenedEngine, ColdStart) -> Unit,
    checking: (Double, SelfCheckReport?) -> Unit,
): LoadedModel? {
    val bundle = Bundle.open(files, phone.androidApi)
    val recorder = TraceRecorder(0)
    recorder.cold { it.copy(appReadyNs = readyNs, bundleCheckedNs = phone.clock.nanos()) }
    val opened = openBest(bundle, phone.engines, phone.clock, recorder)
    var kept = false
    try {
        recorder.cold { it.copy(weightCache = phone.weightCache) }
        loaded(opened, recorder.coldStart)
        kept = phone.hasChecked(bundle) || passes(bundle, opened, checking)
        if (kept) phone.markChecked(bundle)
        return if (kept) LoadedModel(bundle, opened, recorder.coldStart) else null
    } finally {
        if (!kept) opened.engine.close()
    }
}

/** Whether the device computes what the model computes. */
private fun passes(
    bundle: Bundle,
    opened: OpenedEngine,
    checking: (Double, SelfCheckReport?) -> Unit,
): Boolean {
    var tenth = -1
    val report =
        SelfCheck(bundle, opened.engine).run {
            if ((it * 10).toInt() == tenth) return@run
            tenth = (it * 10).toInt()
            checking(tenth / 10.0, null)
        }
    checking(1.0, report)
    return report.passed
}
