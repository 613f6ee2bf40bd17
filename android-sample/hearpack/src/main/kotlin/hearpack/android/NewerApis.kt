/*
 * Calls that need a newer Android than minSdk, an object a level. Each use stands behind a check of SDK_INT;
 * tests/android/test_api_levels.py compares both with the platform's declarations.
 */
package hearpack.android

import android.media.AudioManager
import android.media.AudioRecord
import android.media.AudioRecordingConfiguration
import android.os.Build
import android.os.PowerManager
import java.util.concurrent.Executor

/** Tells whether the system gives us silence because another app holds the microphone. */
class SilenceWatch {
    @Volatile var silenced = false
    internal var callback: Any? = null
}

internal object Api29 {
    fun watch(
        record: AudioRecord,
        watch: SilenceWatch,
    ) {
        val callback =
            object : AudioManager.AudioRecordingCallback() {
                override fun onRecordingConfigChanged(configs: List<AudioRecordingConfiguration>) {
                    watch.silenced = configs.any { it.isClientSilenced }
                }
            }
        record.registerAudioRecordingCallback(Executor { it.run() }, callback)
        watch.callback = callback
        // The callback hears changes only: a call may be on already.
        watch.silenced = record.activeRecordingConfiguration?.isClientSilenced ?: false
    }

    fun unwatch(
        record: AudioRecord,
        watch: SilenceWatch,
    ) {
        (watch.callback as? AudioManager.AudioRecordingCallback)?.let(record::unregisterAudioRecordingCallback)
        watch.callback = null
    }

    fun thermalStatus(power: PowerManager): Int = power.currentThermalStatus

    /** What [offThermalStatus] needs to end it. */
    fun onThermalStatus(
        power: PowerManager,
        report: (Int) -> Unit,
    ): Any {
        val listener = PowerManager.OnThermalStatusChangedListener { report(it) }
        power.addThermalStatusListener(Executor { it.run() }, listener)
        return listener
    }

    fun offThermalStatus(
        power: PowerManager,
        listener: Any?,
    ) {
        (listener as? PowerManager.OnThermalStatusChangedListener)?.let(power::removeThermalStatusListener)
    }
}

internal object Api30 {
    /** 1.0 is severe throttling; NaN where the device does not say. */
    fun thermalHeadroom(power: PowerManager): Float = power.getThermalHeadroom(0)
}

internal object Api31 {
    fun soc(): String = Build.SOC_MODEL
}
