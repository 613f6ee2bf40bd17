package hearpack.android

import android.app.ActivityManager
import android.content.Context
import android.content.pm.ApplicationInfo
import android.os.Build
import android.os.PowerManager
import android.os.Process
import android.os.SystemClock
import hearpack.core.audio.Clock
import hearpack.core.trace.AppInfo
import hearpack.core.trace.DeviceInfo
import hearpack.core.trace.ThermalState
import java.io.File

/** Nanoseconds since process start, of a clock that does not stop in sleep. */
object ProcessClock : Clock {
    private val start = Process.getStartElapsedRealtime() * 1_000_000L

    override fun nanos(): Long = SystemClock.elapsedRealtimeNanos() - start

    /** A time of elapsedRealtimeNanos as one of this clock. */
    fun fromBoot(nanos: Long): Long = nanos - start
}

/** What the trace says of the device. */
class Device(
    private val context: Context,
) {
    private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    fun app(): AppInfo {
        val info = context.packageManager.getPackageInfo(context.packageName, 0)
        val debug = context.applicationInfo.flags and ApplicationInfo.FLAG_DEBUGGABLE != 0
        return AppInfo(info.versionName ?: "unknown", debug)
    }

    fun info(): DeviceInfo {
        val memory = ActivityManager.MemoryInfo()
        (context.getSystemService(Context.ACTIVITY_SERVICE) as ActivityManager).getMemoryInfo(memory)
        val soc = if (Build.VERSION.SDK_INT >= 31) Api31.soc() else ""
        return DeviceInfo(
            manufacturer = Build.MANUFACTURER.ifEmpty { "unknown" },
            model = Build.MODEL.ifEmpty { "unknown" },
            soc = soc.takeIf { it.isNotEmpty() && it != "unknown" },
            osVersion = Build.VERSION.RELEASE,
            androidApi = Build.VERSION.SDK_INT,
            emulated = EMULATORS.any { it in Build.FINGERPRINT },
            cores = Runtime.getRuntime().availableProcessors(),
            memoryBytes = memory.totalMem.takeIf { it > 0 },
            lowPowerMode = power.isPowerSaveMode,
        )
    }

    /** The thermal state now. */
    fun thermal(): ThermalState {
        val status = if (Build.VERSION.SDK_INT >= 29) Api29.thermalStatus(power) else -1
        return thermal(status)
    }

    private var watch: Any? = null

    /** Tells of every change, where the system does, until [close]. */
    fun onThermal(report: (ThermalState) -> Unit) {
        if (Build.VERSION.SDK_INT >= 29) watch = Api29.onThermalStatus(power) { report(thermal(it)) }
    }

    fun close() {
        if (Build.VERSION.SDK_INT >= 29) Api29.offThermalStatus(power, watch)
        watch = null
    }

    private fun thermal(status: Int): ThermalState {
        val headroom = if (Build.VERSION.SDK_INT >= 30) Api30.thermalHeadroom(power).toDouble() else Double.NaN
        val known = headroom.takeIf { it.isFinite() && it >= 0 }
        return ThermalState(ProcessClock.nanos(), THERMAL.getOrElse(status) { "unknown" }, known)
    }

    /** Largest resident memory of the process; null where the kernel does not say. */
    fun peakMemoryBytes(): Long? =
        File("/proc/self/status")
            .readLines()
            .find { it.startsWith("VmHWM:") }
            ?.filter { it.isDigit() }
            ?.toLongOrNull()
            ?.let { it * 1024 }

    private companion object {
        val THERMAL = listOf("nominal", "light", "moderate", "severe", "critical", "emergency", "shutdown")
        val EMULATORS = listOf("generic", "emulator", "sdk_gphone")
    }
}
