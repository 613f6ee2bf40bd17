package hearpack.core.audio

/** Whether an enhancer may play along while it records. */
enum class Monitoring { ALLOWED, ASK, REFUSED }

/**
 * An output that is connected.
 *
 * @property type Android's AudioDeviceInfo.type.
 * @property name as it calls itself; may be empty.
 */
data class OutputDevice(
    val type: Int,
    val name: String,
) {
    /** What an answer about it is remembered by. */
    val key: String get() = "$type $name"
}

/** Where a media stream is played, and whether it may be. [device] is the one in doubt, null where there is none. */
data class Output(
    val port: Port,
    val monitoring: Monitoring,
    val device: OutputDevice? = null,
)

private class Kind(
    val port: Port,
    val monitoring: Monitoring,
)

// Numbers of AudioDeviceInfo; what is not listed is Port.OTHER and refused. The earpiece and the speaker are no
// choice: they play where nothing else is connected.
private val KINDS =
    mapOf(
        1 to Kind(Port.BUILT_IN, Monitoring.REFUSED), // earpiece
        2 to Kind(Port.BUILT_IN, Monitoring.REFUSED), // speaker
        24 to Kind(Port.BUILT_IN, Monitoring.REFUSED), // speaker for alarms
        15 to Kind(Port.BUILT_IN, Monitoring.REFUSED), // microphone
        3 to Kind(Port.WIRED, Monitoring.ALLOWED), // headset
        4 to Kind(Port.WIRED, Monitoring.ALLOWED), // headphones
        22 to Kind(Port.USB, Monitoring.ALLOWED), // USB headset
        11 to Kind(Port.USB, Monitoring.ASK), // USB device: a sound card, a dock, a loudspeaker, some headsets
        12 to Kind(Port.USB, Monitoring.ASK), // USB accessory
        23 to Kind(Port.HEARING_AID, Monitoring.ALLOWED),
        26 to Kind(Port.BLUETOOTH_LE, Monitoring.ALLOWED), // BLE headset
        7 to Kind(Port.BLUETOOTH_HFP, Monitoring.ASK), // headsets, and loudspeakers and cars with hands-free
        8 to Kind(Port.BLUETOOTH_A2DP, Monitoring.ASK), // headphones, loudspeakers and cars
    )
private const val SCO = 7
private val SILENT = setOf(18, 20, 25, 28) // telephony, IP, remote submix, echo reference: no media goes there

/** The port of a device by Android's AudioDeviceInfo.type. */
fun portOf(type: Int): Port = KINDS[type]?.port ?: Port.OTHER

/**
 * Where media is played, and whether an enhancer may play there while it records: the guard against howling.
 *
 * Of several outputs the system takes one by rules of its own, so the worst of them counts. A hands-free link (SCO) carries
 * calls, not media: the same loudspeaker is in the list as A2DP too.
 *
 * @param connected all outputs, the phone's own among them.
 * @param answers of the user, by [OutputDevice.key]: whether it is a headset.
 */
fun outputOf(
    connected: List<OutputDevice>,
    answers: Map<String, Boolean>,
): Output {
    val outer = connected.filter { portOf(it.type) != Port.BUILT_IN && it.type != SCO && it.type !in SILENT }
    val worst = outer.maxByOrNull { monitoring(it, answers) } ?: return Output(Port.BUILT_IN, Monitoring.REFUSED)
    val monitoring = monitoring(worst, answers)
    return Output(portOf(worst.type), monitoring, worst.takeIf { monitoring == Monitoring.ASK })
}

private fun monitoring(
    device: OutputDevice,
    answers: Map<String, Boolean>,
): Monitoring {
    val known = KINDS[device.type]?.monitoring ?: Monitoring.REFUSED
    if (known != Monitoring.ASK) return known
    return when (answers[device.key]) {
        true -> Monitoring.ALLOWED
        false -> Monitoring.REFUSED
        null -> Monitoring.ASK
    }
}
